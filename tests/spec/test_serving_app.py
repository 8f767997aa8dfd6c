"""The service as its callers see it: over ASGI, and as a real process that is killed."""

import asyncio
import contextlib
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

import serving_builders
from mlops_lab.errors import PortInUse
from mlops_lab.events import OBSERVATIONS
from mlops_lab.serving.app import App, create_app
from mlops_lab.serving.call import Call
from mlops_lab.serving.on_uvicorn import run
from mlops_lab.serving.prediction_log import Position, PredictionLog, read_frames
from mlops_lab.serving.segments import log_id, segment_path
from mlops_lab.serving.service import Service
from mlops_lab.serving.shipped import remember_shipped
from serving_builders import TOKEN, Replica, a_count, a_package, a_replica, an_item

JSON = {"content-type": "application/json"}
BEARER = {"authorization": f"Bearer {TOKEN}"}


@asynccontextmanager
async def serving(replica: Replica, root_path: str = "") -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(replica.parts)
    async with app.running():
        transport = httpx.ASGITransport(app, root_path=root_path, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://serving") as client:
            yield client


def with_service(replica: Replica, story: Callable[[httpx.AsyncClient], Awaitable[None]], root_path: str = "") -> None:
    async def told() -> None:
        async with serving(replica, root_path) as client:
            await story(client)

    asyncio.run(told())


def logged(replica: Replica) -> list[dict[str, object]]:
    return [frame for _, frame in read_frames(replica.directory / "serving/log")]


def an_outcome(event_id: str = "e1", **change: object) -> dict[str, object]:
    return {"event_id": event_id, "prediction_id": "p1", "revision": 0, "outcome": {"long": True}, "at": "2013-04-01T13:00:00Z"} | change


def test_one_item_and_many_are_answered_and_logged(tmp_path: Path) -> None:
    replica = a_replica(tmp_path)

    async def story(client: httpx.AsyncClient) -> None:
        one = await client.post("/v1/predict", json=an_item(), headers={"x-request-id": "r-1"})
        many = await client.post("/v1/predict", json={"items": [an_item(), an_item("exit")], "purpose": "probe"})
        assert (one.status_code, many.status_code) == (200, 200)
        assert one.headers["x-request-id"] == "r-1"
        assert one.json()["probability"] == 0.3
        assert many.headers["x-request-id"] == many.json()["request_id"]
        answered = [one.json()["prediction_id"], *(item["prediction_id"] for item in many.json()["items"])]
        rows = [row["prediction_id"] for frame in logged(replica) for row in frame["rows"]]  # type: ignore[attr-defined]
        assert rows == answered

    with_service(replica, story)


def test_under_a_prefix_the_same_is_answered(tmp_path: Path) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        assert (await client.post("/queues/v1/predict", json=an_item())).json()["probability"] == 0.3
        assert (await client.post("/queues/v1/predict", json=7)).status_code == 422
        assert (await client.post("/queues/v1/feedback", json={"items": [an_outcome()]}, headers=BEARER)).status_code == 202
        assert (await client.post("/queues/v1/predict", content=b" " * (1024 * 1024 + 1), headers=JSON)).status_code == 413

    with_service(a_replica(tmp_path), story, root_path="/queues")


def test_refusals_are_problem_details_and_are_not_logged(tmp_path: Path) -> None:
    replica = a_replica(tmp_path)

    async def story(client: httpx.AsyncClient) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(20):
                yield b" " * 65536

        replies = {
            400: await client.post("/v1/predict", content=b"{", headers=JSON),
            404: await client.get("/v1/nothing"),
            405: await client.get("/v1/predict"),
            413: await client.post("/v1/predict", content=b" " * (1024 * 1024 + 1), headers=JSON),
            415: await client.post("/v1/predict", content=b"{}"),
            422: await client.post("/v1/predict", json={"items": [an_item(place=1)]}),
        }
        for status, reply in replies.items():
            assert reply.status_code == status
            assert reply.headers["content-type"] == "application/problem+json"
            assert reply.json()["status"] == status
            assert reply.json()["detail"]
        assert replies[405].headers["allow"] == "POST"
        assert replies[422].json()["errors"][0]["field"] == "items[0].place"
        assert (await client.post("/v1/predict", content=chunks(), headers=JSON)).status_code == 413
        assert (await client.post("/v1/predict", json=an_item(), headers={"x-request-id": "a b"})).status_code == 422

    with_service(replica, story)
    assert logged(replica) == []


def test_what_the_service_cannot_do_is_its_own_fault_and_says_no_more_than_that(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    replica = a_replica(tmp_path)

    def broken(_: object) -> None:
        raise RuntimeError("secret detail")

    replica.online.read = broken  # type: ignore[assignment, method-assign]

    async def story(client: httpx.AsyncClient) -> None:
        reply = await client.post("/v1/predict", json=an_item(), headers={"x-request-id": "r-9"})
        assert reply.status_code == 500
        assert "secret" not in reply.text
        assert reply.json()["request_id"] == "r-9"

    with_service(replica, story)
    assert "secret detail" in caplog.text
    assert logged(replica) == []


def test_an_unwritable_log_means_503_until_it_can_be_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replica = a_replica(tmp_path)

    async def story(client: httpx.AsyncClient) -> None:
        with monkeypatch.context() as patch:
            patch.setattr("os.write", _disk_full)
            reply = await client.post("/v1/predict", json=an_item())
            assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
            assert "prediction log" in reply.json()["detail"]
            feedback = await client.post("/v1/feedback", json={"items": [an_outcome()]}, headers=BEARER)
            assert feedback.status_code == 503
            assert (await client.get("/v1/model")).json()["degraded"]
        assert (await client.get("/readyz")).status_code == 200
        assert (await client.post("/v1/predict", json=an_item())).status_code == 200
        accepted = await client.post("/v1/feedback", json={"items": [an_outcome()]}, headers=BEARER)
        assert accepted.json()["accepted"] == 1  # the refused one was not remembered as accepted

    with_service(replica, story)
    assert [frame["kind"] for frame in logged(replica)] == ["predictions", "feedback"]


def _disk_full(*_: object) -> int:
    raise OSError(28, "No space left on device")


def test_without_a_champion_the_service_lives_and_is_not_ready(tmp_path: Path) -> None:
    replica = a_replica(tmp_path, None)

    async def story(client: httpx.AsyncClient) -> None:
        assert (await client.get("/healthz")).status_code == 200
        for path in ("/readyz", "/v1/model"):
            assert (await client.get(path)).status_code == 503
        reply = await client.post("/v1/predict", json=an_item())
        assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
        replica.books.promote(1, replica.store.put(a_package(0.7)))
        replica.follow()
        assert (await client.get("/readyz")).status_code == 200
        assert (await client.get("/v1/model")).json()["version"] == 1

    with_service(replica, story)


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


def test_facts_reach_the_answer_of_the_next_request(tmp_path: Path) -> None:
    replica = a_replica(tmp_path)

    async def story(client: httpx.AsyncClient) -> None:
        assert (await client.post("/v1/predict", json=an_item())).json()["feature_ages_s"] == {"counts": None}
        replica.bus.publish(OBSERVATIONS, [a_count(3)])
        assert (await client.post("/v1/predict", json=an_item())).json()["feature_ages_s"] == {"counts": 0.0}

    with_service(replica, story)


class TestFeedback:
    def test_outcomes_are_logged_once_before_they_are_acknowledged(self, tmp_path: Path) -> None:
        replica = a_replica(tmp_path)

        async def story(client: httpx.AsyncClient) -> None:
            first = await client.post(
                "/v1/feedback", json={"items": [an_outcome("e1"), an_outcome("e2"), an_outcome("e1")]}, headers=BEARER
            )
            again = await client.post("/v1/feedback", json={"items": [an_outcome("e2"), an_outcome("e3")]}, headers=BEARER)
            assert (first.status_code, first.json()["accepted"], first.json()["known_already"]) == (202, 2, 1)
            assert (again.json()["accepted"], again.json()["known_already"]) == (1, 1)

        with_service(replica, story)
        frames = logged(replica)
        assert [[item["event_id"] for item in frame["items"]] for frame in frames] == [["e1", "e2"], ["e3"]]  # type: ignore[attr-defined]
        assert frames[0]["kind"] == "feedback"
        assert frames[0]["items"][0] == an_outcome("e1")  # type: ignore[index]

    @pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer \xe4"])
    def test_only_the_token_opens(self, tmp_path: Path, header: str | None) -> None:
        replica = a_replica(tmp_path)

        async def story(client: httpx.AsyncClient) -> None:
            headers = [] if header is None else [(b"authorization", header.encode("latin-1"))]
            reply = await client.post("/v1/feedback", json={"items": [an_outcome()]}, headers=headers)
            assert (reply.status_code, reply.headers["www-authenticate"]) == (401, "Bearer")

        with_service(replica, story)
        assert logged(replica) == []

    def test_a_malformed_outcome_refuses_the_request_and_names_the_field(self, tmp_path: Path) -> None:
        replica = a_replica(tmp_path)

        async def story(client: httpx.AsyncClient) -> None:
            items = [an_outcome("e1"), an_outcome("e2", outcome={"long": "yes"})]
            reply = await client.post("/v1/feedback", json={"items": items}, headers=BEARER)
            assert (reply.status_code, reply.json()["errors"][0]["field"]) == (422, "items[1].outcome.long")
            changed = [an_outcome("e1"), an_outcome("e1", outcome={"long": False})]
            reply = await client.post("/v1/feedback", json={"items": changed}, headers=BEARER)
            assert (reply.status_code, reply.json()["errors"][0]["field"]) == (422, "items[1].event_id")

        with_service(replica, story)
        assert logged(replica) == []


def test_documentation_and_metrics_say_what_happens(tmp_path: Path) -> None:
    segment = segment_path(tmp_path / "serving/log", 1)

    async def story(client: httpx.AsyncClient) -> None:
        await client.post("/v1/predict", json={"items": [an_item()] * 4})
        await client.post("/v1/predict", json=3)
        await client.post("/v1/feedback", json={"items": [an_outcome()]}, headers=BEARER)
        schema = (await client.get("/openapi.json")).json()
        assert set(schema["paths"]) == {"/v1/predict", "/v1/feedback", "/v1/model", "/healthz", "/readyz", "/metrics"}
        assert schema["paths"]["/v1/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]["oneOf"]
        assert {"200", "422", "503"} <= set(schema["paths"]["/v1/predict"]["post"]["responses"])
        page = (await client.get("/metrics")).text
        assert f"lab_serving_log_backlog_bytes {float(segment.stat().st_size - 8)}" in page
        assert f"lab_serving_log_bytes {float(segment.stat().st_size)}" in page
        assert "lab_serving_log_limit_bytes 4.294967296e+09" in page
        remember_shipped(segment.parent, log_id(segment.parent), Position(1, segment.stat().st_size - 5))
        assert "lab_serving_log_backlog_bytes 5.0" in (await client.get("/metrics")).text
        (segment.parent / "id").write_bytes(b"?")
        segment_path(segment.parent, 2).write_bytes(b"12345")  # what the shipper drops is seen at once, too
        now = (await client.get("/metrics")).text
        assert "lab_serving_log_backlog_bytes NaN" in now
        assert f"lab_serving_log_bytes {float(segment.stat().st_size + 5)}" in now
        for line in (
            'lab_serving_replies_total{route="predict",status="200"} 1.0',
            'lab_serving_replies_total{route="predict",status="422"} 1.0',
            'lab_serving_predictions_total{purpose="live",variant="champion",version="1"} 4.0',
            'lab_serving_predict_seconds_bucket{le="+Inf",variant="champion",version="1"} 1.0',
            'lab_serving_feedback_seconds_bucket{le="+Inf"} 1.0',
            'lab_serving_probability_bucket{le="0.3",variant="champion",version="1"} 0.0',
            'lab_serving_probability_bucket{le="0.35",variant="champion",version="1"} 4.0',
            'lab_serving_features_unknown_total{source="counts"} 1.0',
            "lab_serving_model_version 1.0",
            'lab_serving_dependency{name="bus",state="ok"} 1.0',
            'lab_serving_ledger_calls_total{ended="failed"} 0.0',
        ):
            assert line in page

    with_service(a_replica(tmp_path), story)


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


def test_what_failed_inside_is_told_without_values_and_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    replica = a_replica(tmp_path, None)
    replica.books.promote(1, replica.store.put(a_package(0.3)))
    service = Service(replica.parts)
    replica.follow()
    call = Call("predict", [(b"content-type", b"application/json"), (b"x-request-id", b"r-1")], json.dumps(an_item("gate")).encode())
    assert replica.parts.slot.current is not None
    with monkeypatch.context() as patch:
        patch.setattr(type(replica.parts.slot.current.scorer), "score_rows", lambda self, rows: [float("nan") for _ in rows])
        failed = service.answer(replace(call))
    with monkeypatch.context() as patch:
        patch.setattr("os.write", _disk_full)
        unlogged = service.answer(replace(call))

    assert (failed.status, unlogged.status) == (500, 503)
    for reply in (failed, unlogged):
        said = reply.body.decode()
        assert "gate" not in said
        assert str(tmp_path) not in said
        assert json.loads(said)["request_id"] == "r-1"
    assert "'gate'" in caplog.text
    told = [record for record in caplog.records if record.message in ("serving.request_failed", "serving.not_logged")]
    assert [getattr(record, "request_id", "") for record in told] == ["r-1", "r-1"]
    assert str(tmp_path) in str(getattr(told[1], "why", ""))


def _disk_full(*_: object) -> int:
    raise OSError(28, "No space left on device")


def test_routes_that_could_not_be_loaded_once_are_loaded_when_they_are_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, failures = App._make, [MemoryError(), OSError(24, "Too many open files")]

    def fails_at_first(self: App) -> object:
        if failures:
            raise failures.pop()
        return make(self)

    monkeypatch.setattr(App, "_make", fails_at_first)

    async def story(client: httpx.AsyncClient) -> None:
        statuses = [(await client.get("/v1/model")).status_code for _ in range(3)]
        assert statuses == [500, 500, 200]

    with_service(a_replica(tmp_path), story)
