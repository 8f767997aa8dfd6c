"""What a trace holds: a request with its record and its outcome, and a swap with its assignment."""

import json
from pathlib import Path

import pytest

from mlops_lab.errors import LogUnwritable
from mlops_lab.serving.call import FEEDBACK, Call
from mlops_lab.serving.prediction_log import Durability, read_frames
from mlops_lab.telemetry import OFF, Kind, TraceContext
from serving_builders import TOKEN, Replica, a_package, a_replica
from telemetry_builders import CALLER, UNSAMPLED, Recorded, a_question, a_service


def an_outcome(traceparent: str = "", token: str = TOKEN) -> Call:
    item = {"event_id": "e1", "prediction_id": "p1", "revision": 0, "outcome": {"long": True}, "at": "2013-04-01T13:00:00Z"}
    headers = {"content-type": "application/json", "authorization": f"Bearer {token}"}
    if traceparent:
        headers["traceparent"] = traceparent
    body = json.dumps({"items": [item]}).encode()
    return Call(FEEDBACK, [(name.encode(), value.encode()) for name, value in headers.items()], body)


def frames(replica: Replica) -> list[dict[str, object]]:
    return [dict(frame) for _, frame in read_frames(replica.directory / "serving/log")]


@pytest.mark.parametrize("durability", ["process", "disk"])
def test_a_traced_request_is_a_span_of_the_callers_trace_and_its_record_carries_that_span_on(
    tmp_path: Path, durability: Durability
) -> None:
    spans = Recorded(sample=0.0)
    replica, service = a_service(tmp_path, spans, durability)
    spans.ended.clear()

    reply = service.answer(a_question(CALLER.traceparent, **{"x-request-id": "r-1"}))

    assert reply.status == 200
    request = spans.named("POST /v1/predict")
    assert (request.context.trace_id, request.parent, request.kind) == (CALLER.trace_id, CALLER.span_id, Kind.SERVER)
    assert frames(replica)[0]["trace"] == request.context.traceparent
    row = frames(replica)[0]["rows"][0]  # type: ignore[index]
    assert request.attributes["lab.prediction_id"] == row["prediction_id"]
    assert (request.attributes["http.response.status_code"], request.attributes["lab.request_id"]) == (200, "r-1")
    parts = [spans.named("read features, score"), spans.named("write prediction log")]
    assert {part.parent for part in parts} == {request.context.span_id}
    assert len({each.context.span_id for each in spans.ended}) == 3
    assert request.start_ns <= parts[0].start_ns <= parts[0].end_ns <= parts[1].start_ns <= parts[1].end_ns <= request.end_ns


def test_a_caller_who_does_not_sample_is_carried_on_and_not_recorded(tmp_path: Path) -> None:
    spans = Recorded(sample=1.0)
    replica, service = a_service(tmp_path, spans)
    spans.ended.clear()

    service.answer(a_question(UNSAMPLED))

    assert spans.ended == []
    assert frames(replica)[0]["trace"] == UNSAMPLED


def test_without_a_caller_chance_begins_a_trace(tmp_path: Path) -> None:
    spans = Recorded(sample=1.0)
    replica, service = a_service(tmp_path, spans)
    service.answer(a_question())

    request = spans.named("POST /v1/predict")

    assert request.parent == ""
    assert frames(replica)[0]["trace"] == request.context.traceparent
    assert [Recorded(sample=0.0).of_request(None) for _ in range(100)] == [None] * 100
    found = sum(Recorded(sample=0.5).of_request(None) is not None for _ in range(2000))
    assert 800 < found < 1200


@pytest.mark.parametrize("nonsense", ["00-" + "0" * 32 + "-b7ad6b7169203331-01", "00-AF-01", "ff" + CALLER.traceparent[2:], "x" * 500])
def test_a_malformed_trace_is_ignored_as_the_standard_says(tmp_path: Path, nonsense: str) -> None:
    spans = Recorded(sample=0.0)
    replica, service = a_service(tmp_path, spans)
    spans.ended.clear()

    assert service.answer(a_question(nonsense)).status == 200

    assert "trace" not in frames(replica)[0]
    assert spans.ended == []


def test_what_is_refused_is_a_span_and_only_our_own_failures_are_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spans = Recorded()
    replica, service = a_service(tmp_path, spans)
    spans.ended.clear()
    assert service.answer(a_question(CALLER.traceparent, place="closed")).status == 422
    (theirs,) = spans.ended
    assert (theirs.attributes["http.response.status_code"], theirs.error) == (422, "")

    def full(frames: object) -> None:
        raise LogUnwritable.at("here", "the disk is full")

    monkeypatch.setattr(replica.parts.log, "write", full)
    assert service.answer(a_question(CALLER.traceparent)).status == 503
    (ours,) = spans.ended[1:]  # nothing was written
    assert (ours.attributes["http.response.status_code"], ours.error) == (503, "503")


def test_requests_of_one_turn_have_spans_of_their_own(tmp_path: Path) -> None:
    spans = Recorded(sample=0.0)
    replica, service = a_service(tmp_path, spans)
    spans.ended.clear()
    calls = [a_question(CALLER.traceparent), a_question(), a_question(TraceContext.new().traceparent)]

    service.work(calls)
    service.settle(calls)

    assert [each.name for each in spans.ended].count("POST /v1/predict") == 2
    assert ["trace" in frame for frame in frames(replica)] == [True, False, True]


def test_an_outcome_that_is_reported_in_a_trace_carries_it_into_the_log(tmp_path: Path) -> None:
    spans = Recorded(sample=0.0)
    replica, service = a_service(tmp_path, spans)

    assert service.answer(an_outcome(CALLER.traceparent)).status == 202

    reported = spans.named("POST /v1/feedback")
    assert (reported.context.trace_id, reported.parent) == (CALLER.trace_id, CALLER.span_id)
    assert frames(replica)[0]["trace"] == reported.context.traceparent


def test_where_nothing_is_recorded_the_callers_trace_still_goes_into_the_log(tmp_path: Path) -> None:
    replica, service = a_service(tmp_path, OFF)
    service.answer(a_question(CALLER.traceparent))
    service.answer(an_outcome(CALLER.traceparent))
    assert [frame["trace"] for frame in frames(replica)] == [CALLER.traceparent] * 2


def test_a_swap_is_a_trace_of_its_own_that_is_linked_to_where_the_assignment_was_made(tmp_path: Path) -> None:
    spans = Recorded()
    replica = a_replica(tmp_path, 0.3, spans=spans)
    replica.follow()
    first = spans.named("swap model")
    line = replica.books.promote(2, replica.store.put(a_package(0.6)))
    replica.books.traces[line.id] = CALLER.traceparent

    replica.follow()
    replica.follow()

    assert (first.links, first.attributes["lab.model_version"]) == ((), 1)
    _, second = (each for each in spans.ended if each.name == "swap model")
    assert second.links == (CALLER,)
    assert second.context.trace_id not in (CALLER.trace_id, first.context.trace_id)
    assert (second.attributes["lab.model_version"], second.attributes["lab.assignment"]) == (2, line.id)
