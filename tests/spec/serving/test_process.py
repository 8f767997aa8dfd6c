"""The service while models are swapped, and as a real process that is killed or asked to stop."""

import asyncio
import contextlib
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

import serving_builders
from app_builders import JSON, logged, with_service
from mlops_lab.errors import PortInUse
from mlops_lab.serving.app import create_app
from mlops_lab.serving.on_uvicorn import run
from mlops_lab.serving.prediction_log import PredictionLog, read_frames
from serving_builders import a_package, a_replica, an_item


def test_no_request_fails_and_none_mixes_models_while_models_are_swapped(tmp_path: Path) -> None:
    """100 swaps by the follower's thread while requests are answered: each by one version, and the log names that version."""
    replica = a_replica(tmp_path, 0.1)
    digests = {number: replica.store.put(a_package(number / 10)) for number in (1, 2, 3)}
    versions: set[int] = set()

    def swap() -> None:
        for i in range(1, 101):
            replica.books.promote(1 + i % 3, digests[1 + i % 3])
            deadline = time.monotonic() + 5
            while replica.parts.slot.require().champion.assignment != len(replica.books.lines) and time.monotonic() < deadline:
                time.sleep(0.001)

    async def story(client: httpx.AsyncClient) -> None:
        swapping = asyncio.create_task(asyncio.to_thread(swap))
        while not swapping.done():
            for reply in await asyncio.gather(*(client.post("/v1/predict", json={"items": [an_item()] * 3}) for _ in range(4))):
                assert reply.status_code == 200
                (version,) = {item["model_version"] for item in reply.json()["items"]}
                assert {item["probability"] for item in reply.json()["items"]} == {version / 10}
                versions.add(version)
        await swapping

    with_service(replica, story)
    assert replica.parts.follower.swaps == 101
    assert versions == {1, 2, 3}
    assert all(frame["scorer_sha256"] == digests[frame["model_version"]] for frame in logged(replica))  # type: ignore[index]


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortInUse, match=f"127.0.0.1:{port}"):
            run(create_app(a_replica(tmp_path).parts), "127.0.0.1", port)


def test_the_serving_process_loads_nothing_heavy() -> None:
    heavy = ["mlflow", "sklearn", "pandas", "pyarrow", "deltalake", "scipy", "evidently", "great_expectations", "prefect", "joblib"]
    loads = "import sys, mlops_lab.serving.on_uvicorn; print('fastapi' in sys.modules); import mlops_lab.serving.on_fastapi"
    code = f"{loads}; print([m for m in {heavy} if m in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert said == ["False", "[]"]  # FastAPI comes beside the first answers, the others never


class Process:
    """A replica as a real process behind uvicorn."""

    def __init__(self, directory: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.process = subprocess.Popen([sys.executable, serving_builders.__file__, str(directory), str(port)], stderr=subprocess.DEVNULL)
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10)
        try:
            self._wait_ready()
        except BaseException:
            self.end(signal.SIGKILL)
            raise

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + 30
        while True:
            try:
                if self.client.get("/readyz").status_code == 200:
                    return
            except httpx.TransportError:
                assert self.process.poll() is None, "the process ended"
            assert time.monotonic() < deadline, "the process does not become ready"
            time.sleep(0.02)

    def end(self, how: signal.Signals) -> int:
        self.process.send_signal(how)
        self.client.close()
        return self.process.wait(timeout=15)


def test_every_200_of_a_killed_service_is_in_its_log_once(tmp_path: Path) -> None:
    """Killed while requests are under way, three times over on the same disk."""
    answered: list[str] = []

    def ask_until_it_dies(service: Process) -> None:
        with httpx.Client(base_url=service.client.base_url, timeout=10) as client, contextlib.suppress(httpx.TransportError):
            while True:
                reply = client.post("/v1/predict", json={"items": [an_item()] * 50})
                assert reply.status_code == 200
                answered.extend(item["prediction_id"] for item in reply.json()["items"])

    for round_ in range(1, 4):
        service = Process(tmp_path)
        callers = [threading.Thread(target=ask_until_it_dies, args=(service,)) for _ in range(3)]
        for caller in callers:
            caller.start()
        while len(answered) < round_ * 2000:
            time.sleep(0.01)
        assert service.end(signal.SIGKILL) == -signal.SIGKILL
        for caller in callers:
            caller.join()

    rows = [row["prediction_id"] for _, frame in read_frames(tmp_path / "serving/log") for row in frame["rows"]]
    assert len(rows) == len(set(rows))
    assert set(answered) <= set(rows)
    PredictionLog(tmp_path / "serving/log").close()


def test_a_service_that_is_asked_to_stop_closes_its_log_and_leaves_without_an_error(tmp_path: Path) -> None:
    service = Process(tmp_path)
    reply = service.client.post("/v1/predict", content=json.dumps(an_item()), headers=JSON)
    assert reply.status_code == 200
    assert "server" not in reply.headers
    assert service.end(signal.SIGTERM) in (0, -signal.SIGTERM)
