"""The service behind a real socket, asked by a tool that knows of it only what its document says, and by whoever means harm."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import httpx
import pytest

import serving_builders
from hostile_bodies import hostile_bodies, one_of_each
from serving_builders import TOKEN

SCHEMATHESIS = Path(sys.executable).parent / "schemathesis"
BEARER = {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def flights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a replica about flights, as a process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("flights")
    with (folder / "stderr").open("wb") as log:
        process = subprocess.Popen([sys.executable, serving_builders.__file__, str(folder), str(port), "flights"], stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 30
        while not _ready(address):
            assert process.poll() is None, (folder / "stderr").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield address
        assert process.poll() is None
    finally:
        process.terminate()
        process.wait(timeout=15)
    assert "Traceback" not in (folder / "stderr").read_text()


def _ready(address: str) -> bool:
    try:
        return httpx.get(f"{address}/readyz").status_code == 200
    except httpx.TransportError:
        return False


def test_it_does_what_its_document_says(flights: str, tmp_path: Path) -> None:
    """Schemathesis: valid and invalid requests made from the document; no 5xx, and nothing that is not documented."""
    command = [str(SCHEMATHESIS), "run", f"{flights}/openapi.json", "--header", f"Authorization: Bearer {TOKEN}", "--no-color"]
    command += ["--phases", "examples,coverage,fuzzing", "--max-examples", "15", "--seed", "7", "--generation-database", "none"]
    told = os.environ | {"SCHEMATHESIS_HOOKS": "schemathesis_hooks", "PYTHONPATH": str(Path(serving_builders.__file__).parent)}

    done = subprocess.run(command, cwd=tmp_path, env=told, capture_output=True, text=True, timeout=150, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    generated = re.search(r"(\d+) generated, (\d+) passed", done.stdout)
    assert generated is not None, done.stdout
    assert int(generated[2]) > 100
    assert "6 selected / 6 total" in done.stdout


def test_hostile_requests_are_refused_over_a_socket_and_valid_ones_still_answered(flights: str) -> None:
    """The socket has a part in it: lengths, header bytes that no HTTP allows, bodies that are cut."""
    with httpx.Client(base_url=flights, timeout=30, headers=BEARER) as client:
        schemas = client.get("/openapi.json").json()["components"]["schemas"]
        for path, form in (("/v1/predict", "OneItem"), ("/v1/predict", "ManyItems"), ("/v1/feedback", "Feedback")):
            valid = schemas[form]["examples"][0]
            for hostile in [*one_of_each(valid, seed=1), *islice(hostile_bodies(valid, seed=2, large=False), 150)]:
                headers = {name: value.encode("latin-1") for name, value in hostile.headers.items()}
                reply = client.post(path, content=hostile.body, headers=headers)  # type: ignore[arg-type]
                assert reply.status_code in hostile.expected, hostile
                if reply.status_code >= 400:
                    assert reply.headers["content-type"] == "application/problem+json"
                    assert reply.json()["status"] == reply.status_code
                    assert reply.json()["detail"]
            assert client.post(path, json=valid).status_code in (200, 202)


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/v1/predict", 405, "POST"),
        ("DELETE", "/v1/feedback", 405, "POST"),
        ("POST", "/v1/model", 405, "GET"),
        ("PATCH", "/readyz", 405, "GET"),
        ("TRACE", "/healthz", 405, "GET"),
        ("GET", "/v1", 404, None),
        ("POST", "/v1/predict/", 404, None),
        ("POST", "/V1/predict", 404, None),
        ("GET", "/../etc/passwd", 404, None),
        ("GET", "/%00", 404, None),
    ],
)
def test_a_wrong_method_or_address_is_a_problem(flights: str, method: str, path: str, status: int, allow: str | None) -> None:
    reply = httpx.request(method, flights + path, content=json.dumps({}) if method == "POST" else None)
    assert (reply.status_code, reply.headers.get("allow")) == (status, allow)
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json()["status"] == status
    assert "/docs" in reply.json()["detail"]


def test_every_documented_route_is_there(flights: str) -> None:
    document = httpx.get(f"{flights}/openapi.json").json()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            reply = httpx.request(method, flights + path)
            assert str(reply.status_code) in operation["responses"], path
            assert "405" in operation["responses"], path
    assert httpx.get(f"{flights}/docs").status_code == 200
