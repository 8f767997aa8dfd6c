"""A home whose champion is a forest of one leaf, a process that serves it, and a store that is down."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from hostile_packages import signed
from mlops_lab.bootstrap.founding import FOUNDED_AT, found
from mlops_lab.bootstrap.lab import Lab
from mlops_lab.errors import StoreUnreachable
from mlops_lab.features.view import Kind
from mlops_lab.flights.transform import FEATURES
from mlops_lab.registry.version import ModelVersion, Role
from mlops_lab.scoring import Forest, Package
from mlops_lab.scoring.keys import signing_key
from mlops_lab.settings import Settings


def is_down(digest: str) -> Package:
    raise StoreUnreachable.at("the tests' store", "it is down")


@contextmanager
def a_serving_process(home: Path, **settings: str) -> Iterator[tuple[subprocess.Popen[bytes], httpx.Client]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"LAB_HOME": str(home), "LAB_SERVICE__PORT": str(port), "LAB_SERVICE__FOLLOW_S": "0.05", **settings}
    with (home / "service.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "mlops_lab.bootstrap.serve"], env=environment, stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            yield process, client
    finally:
        process.terminate()
        try:
            process.wait(20)
        finally:
            process.kill()


def model_of(client: httpx.Client) -> dict[str, Any]:
    try:
        answer = client.get("/v1/model")
    except httpx.TransportError:  # it is just starting
        return {}
    found: dict[str, Any] = answer.json()
    return found


def until(
    client: httpx.Client, version: int | None = None, trouble: str = "", seconds: float = 30, refused: bool = False
) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    while True:
        said = model_of(client)
        if said.get("version") == version if version else trouble in json.dumps(said if refused else said.get("degraded", "")):
            return said
        assert time.monotonic() < deadline, f"waited for {version or trouble}, found {said}"
        time.sleep(0.02)


def promote(lab: Lab, digest: str) -> int:
    """Register what lies at an address and give it the traffic, past judge and approval."""
    number = len(lab.ledger.versions()) + 1
    version = ModelVersion(lab.model, number, f"run-{number}", digest, "d" * 64, FOUNDED_AT, FOUNDED_AT, "trainer", "drill")
    lab.ledger.add_version(version, "trainer")
    now = lab.ledger.current(Role.CHAMPION)
    lab.ledger.assign(Role.CHAMPION, number, replacing=now.id if now else None, kind="override", by="operator", why="a test", at=FOUNDED_AT)
    return number


def a_home(home: Path) -> Lab:
    """A home whose champion, version 1, is a forest of one leaf over the features of flights."""
    home.mkdir()
    lab = Lab(Settings(home=home))
    found(lab)
    promote(lab, lab.packages.put(*signed(a_leaf(), signing_key(lab.keys), lab.model)))
    return lab


def a_leaf(log_odds: float = 0.5) -> bytes:
    categories: dict[str, dict[str, int]] = {feature.name: {} for feature in FEATURES if feature.kind is Kind.CATEGORY}
    return Forest(FEATURES, categories, 0.0, ((log_odds,),)).to_bytes()
