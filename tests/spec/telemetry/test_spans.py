"""Spans are values: what is in them, who samples, and a queue and a file that never make anybody wait."""

import json
import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from time import monotonic

import pytest

from mlops_lab.bootstrap.telemetry import resource_of, spans_of
from mlops_lab.settings import TelemetrySettings
from mlops_lab.telemetry import OFF, Kind, Span, TraceContext, current, current_traceparent
from mlops_lab.telemetry.queue import Queue
from mlops_lab.telemetry.span_file import SpanFile
from telemetry_builders import CALLER, UNSAMPLED, Recorded
from waiting import until


def test_spans_know_what_they_are_in_and_what_went_wrong() -> None:
    spans = Recorded()

    def fail() -> None:
        with spans.span("outer", attributes={"lab.window": "2013-W17"}), spans.span("inner") as inner:
            assert inner is not None
            assert current() == inner.context
            assert current_traceparent() == inner.context.traceparent
            raise KeyError("no such thing")

    with pytest.raises(KeyError):
        fail()
    with spans.span("linked", root=True, links=[CALLER, None]), spans.span("apart", root=True):
        pass

    outer, child, linked, apart = map(spans.named, ("outer", "inner", "linked", "apart"))
    assert current() is None
    assert child.parent == outer.context.span_id
    assert child.error == outer.error == "KeyError: 'no such thing'"
    assert (linked.links, linked.parent, linked.error) == ((CALLER,), "", "")
    assert apart.context.trace_id != linked.context.trace_id
    assert outer.start_ns <= child.start_ns <= child.end_ns <= outer.end_ns


def test_without_a_sink_nothing_is_made() -> None:
    with OFF.span("never") as made:
        assert made is None
        assert current_traceparent() == ""
    assert (OFF.on, OFF.dropped, OFF.of_request(CALLER.traceparent)) == (False, 0, None)


def test_an_unsampled_parent_is_no_parent() -> None:
    spans = Recorded()
    with spans.span("work", parent=TraceContext.parse(UNSAMPLED)):
        pass
    assert spans.named("work").parent == ""


def test_a_full_queue_drops_and_counts_and_never_waits() -> None:
    let_go, sent = threading.Event(), []

    def send(batch: Sequence[int]) -> bool:
        let_go.wait(10)
        sent.extend(batch)
        return True

    queue = Queue("numbers", lambda: send, most=10, batch=5, every_s=0.01)
    began = monotonic()
    for number in range(100):
        queue.put(number)
    assert monotonic() - began < 1
    let_go.set()
    queue.close()
    assert 80 <= queue.dropped <= 90  # those in the hands of the sender make room
    assert sent == sorted(sent)
    assert len(sent) + queue.dropped == 100


def test_what_cannot_be_sent_is_counted_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    works = False

    def send(batch: Sequence[int]) -> bool:
        if not works:
            raise OSError("nobody listens")
        return True

    queue = Queue("numbers", lambda: send, batch=1, every_s=0.01)
    with caplog.at_level(logging.INFO, "mlops_lab.telemetry"):
        for number in range(3):
            queue.put(number)
        until(lambda: queue.dropped == 3)
        works = True
        queue.put(3)
        queue.close()
    assert queue.dropped == 3
    assert [record.getMessage() for record in caplog.records] == ["telemetry.not_sent", "telemetry.sent_again"]


def test_spans_in_a_file_are_what_a_collector_writes(tmp_path: Path) -> None:
    spans = spans_of(TelemetrySettings(folder=tmp_path / "traces"), "watcher")
    with spans.span("watch window", links=[CALLER], kind=Kind.CONSUMER, attributes={"lab.rows": 3, "lab.share": 0.5, "lab.on": True}):
        pass

    (line,) = (tmp_path / "traces/watcher.jsonl").read_text().splitlines()
    (resource,) = json.loads(line)["resourceSpans"]
    (span,) = resource["scopeSpans"][0]["spans"]
    assert {"key": "service.name", "value": {"stringValue": "watcher"}} in resource["resource"]["attributes"]
    assert (span["name"], span["kind"], len(span["traceId"]), len(span["spanId"])) == ("watch window", 5, 32, 16)
    assert span["links"] == [{"traceId": CALLER.trace_id, "spanId": CALLER.span_id}]
    assert [each["value"] for each in span["attributes"]] == [{"intValue": "3"}, {"doubleValue": 0.5}, {"boolValue": True}]
    assert int(span["startTimeUnixNano"]) <= int(span["endTimeUnixNano"])


def test_a_file_of_spans_has_an_end(tmp_path: Path) -> None:
    file = SpanFile(tmp_path / "spans.jsonl", resource_of("watcher"), limit_bytes=2_000)
    for _ in range(20):
        file.put(Span("work", TraceContext.new()))
    assert (tmp_path / "spans.jsonl").stat().st_size <= 2_000
    assert 0 < file.dropped < 20
