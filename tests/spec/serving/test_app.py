"""The service as its callers see it, over ASGI: answers, refusals with a reason, and what it says of itself."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from app_builders import BEARER, JSON, an_outcome, logged, with_service
from mlops_lab.events import OBSERVATIONS
from mlops_lab.serving.app import App
from mlops_lab.serving.call import Call
from mlops_lab.serving.prediction_log import Position
from mlops_lab.serving.segments import log_id, segment_path
from mlops_lab.serving.service import Service
from mlops_lab.serving.shipped import remember_shipped
from serving_builders import a_count, a_package, a_replica, an_item


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


def test_facts_reach_the_answer_of_the_next_request(tmp_path: Path) -> None:
    replica = a_replica(tmp_path)

    async def story(client: httpx.AsyncClient) -> None:
        assert (await client.post("/v1/predict", json=an_item())).json()["feature_ages_s"] == {"counts": None}
        replica.bus.publish(OBSERVATIONS, [a_count(3)])
        assert (await client.post("/v1/predict", json=an_item())).json()["feature_ages_s"] == {"counts": 0.0}

    with_service(replica, story)


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
