"""Packages as they lie in a home's store and in its replica's cache, for the faults that harm them."""

import time
from collections.abc import Callable

from mlops_lab.chaos.world import Home
from mlops_lab.scoring.manifest import sha256

FOLLOW_S = 0.1
"""How often the replica looks for another champion."""
NAMES = ("scorer.json", "manifest.json", "signature")
_WAIT_S = 15.0


def await_version(predict: Callable[[bytes], tuple[int, bytes]], home: Home, version: int) -> None:
    """Wait until a version answers; not for ever: who checks sees that it did not."""
    body = home.bodies.read_bytes().splitlines()[0]
    wanted = f'"model_version":{version},'.encode()
    deadline = time.monotonic() + _WAIT_S
    while time.monotonic() < deadline:
        status, answer = predict(body)
        if status == 200 and wanted in answer:
            time.sleep(0.05)  # until the load has met it too
            return
        time.sleep(0.02)


def in_cache(home: Home) -> dict[str, str]:
    """By the digest that its place bears: the digest of each scorer in the replica's cache."""
    found = {}
    for path in (home.path / "serving" / "replica-1" / "cache").glob("*/scorer.json"):
        if len(path.parent.name) == 64:
            found[path.parent.name] = sha256(path.read_bytes())
    return found
