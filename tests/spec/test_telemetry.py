"""What a trace holds: a request with its record and its outcome; and that nobody who asks or answers waits for whoever collects traces."""

import json
import logging
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import monotonic, sleep

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.core import HistogramMetricFamily

from mlops_lab.bootstrap.telemetry import headers_in, resource_of, send_logs, send_metrics, spans_of
from mlops_lab.errors import LogUnwritable, SettingsWrong
from mlops_lab.logs import JsonLines
from mlops_lab.serving.call import FEEDBACK, PREDICT, Call
from mlops_lab.serving.on_prometheus import Metrics
from mlops_lab.serving.prediction_log import Durability, read_frames
from mlops_lab.serving.service import Service
from mlops_lab.settings import TelemetrySettings
from mlops_lab.telemetry import OFF, Kind, Span, Spans, TraceContext, current, current_traceparent
from mlops_lab.telemetry.log_lines import trace_ids
from mlops_lab.telemetry.metrics import MetricsSender, histograms
from mlops_lab.telemetry.queue import Queue
from mlops_lab.telemetry.span_file import SpanFile
from otlp_receiver import Receiver
from serving_builders import TOKEN, Replica, a_package, a_replica, an_item

CALLER = TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
UNSAMPLED = CALLER.traceparent[:-1] + "0"


class Recorded(Spans):
    """Spans that are kept in a list; every request without a trace begins one, unless told otherwise."""

    def __init__(self, sample: float = 1.0) -> None:
        self.ended: list[Span] = []
        super().__init__(self.ended.append, sample)

    def named(self, name: str) -> Span:
        (span,) = (each for each in self.ended if each.name == name)
        return span


def a_service(directory: Path, spans: Spans, durability: Durability = "process") -> tuple[Replica, Service]:
    replica = a_replica(directory, 0.3, durability=durability, spans=spans)
    replica.follow()
    return replica, Service(replica.parts)


def a_question(traceparent: str = "", place: str = "gate", **headers: str) -> Call:
    named = {"content-type": "application/json", **headers} | ({"traceparent": traceparent} if traceparent else {})
    return Call(PREDICT, [(name.encode(), value.encode()) for name, value in named.items()], json.dumps(an_item(place)).encode())


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
        _until(lambda: queue.dropped == 3)
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


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


def _until(holds: object, wait_s: float = 15.0) -> None:
    ends = monotonic() + wait_s
    while not holds():  # type: ignore[operator]
        assert monotonic() < ends, "it did not come about"
        sleep(0.02)


def test_spans_go_out_by_otlp_with_the_vendors_headers(receiver: Receiver, tmp_path: Path) -> None:
    (tmp_path / "headers").write_text("# of the vendor\n\nX-Api-Key: secret: with a colon\n")
    said = TelemetrySettings(otlp=receiver.address, headers_file=tmp_path / "headers", sample=1)
    spans = spans_of(said, "inference", "replica-1")
    _, service = a_service(tmp_path, spans)

    assert service.answer(a_question(CALLER.traceparent)).status == 200

    _until(lambda: len(receiver.spans()) >= 4)
    assert {(service, name) for service, name, *_ in receiver.spans()} == {
        ("inference", name) for name in ("swap model", "POST /v1/predict", "read features, score", "write prediction log")
    }
    assert [trace for _, name, trace, _ in receiver.spans() if name == "POST /v1/predict"] == [CALLER.trace_id]
    headers = receiver.requests[0][1]
    assert (headers["x-api-key"], headers["content-type"]) == ("secret: with a colon", "application/x-protobuf")
    span = next(
        span
        for _, _, body in receiver.requests
        for scope in ExportTraceServiceRequest.FromString(body).resource_spans[0].scope_spans
        for span in scope.spans
        if span.name == "POST /v1/predict"
    )
    assert (span.parent_span_id.hex(), span.kind, span.flags) == (CALLER.span_id, 2, 0x300)  # its parent is elsewhere
    assert spans.dropped == 0


@pytest.fixture
def on_root() -> Iterator[list[logging.LogRecord]]:
    """What standard error would get; `caplog` also hears what does not come that far."""
    heard: list[logging.LogRecord] = []
    handler = logging.Handler(logging.INFO)
    handler.emit = heard.append  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    yield heard
    logging.getLogger().removeHandler(handler)


def test_a_collector_that_is_down_or_refuses_costs_no_answer_and_one_line(tmp_path: Path, on_root: list[logging.LogRecord]) -> None:
    refusing = Receiver(status=400)
    spans = spans_of(TelemetrySettings(otlp=refusing.address, sample=1, timeout_s=1), "inference")
    nobody = spans_of(TelemetrySettings(otlp="http://127.0.0.1:9", sample=1, timeout_s=0.2), "inference")
    for name, each in (("refuses", spans), ("down", nobody)):
        (tmp_path / name).mkdir()
        _, service = a_service(tmp_path / name, each)
        began = monotonic()
        assert [service.answer(a_question()).status for _ in range(50)] == [200] * 50
        assert monotonic() - began < 2
        _until(lambda each=each: each.dropped >= 150)  # type: ignore[misc]
    refusing.close()
    told = [record for record in on_root if record.name.startswith(("opentelemetry", "mlops_lab.telemetry"))]
    assert [record.getMessage() for record in told] == ["telemetry.not_sent"] * 2  # the exporters would speak at each try
    assert "400" in vars(told[0])["why"]


def test_log_lines_go_out_too_and_name_their_trace(receiver: Receiver) -> None:
    root = logging.getLogger()
    before, filtered = root.handlers[:], {id(handler): handler.filters[:] for handler in root.handlers}
    spans, log = Recorded(), logging.getLogger("mlops_lab.of_a_test")
    try:
        send_logs(TelemetrySettings(otlp=receiver.address), "watcher")
        with spans.span("work"):
            log.warning("test.happened", extra={"rows": 3, "parts": ["a", "b"]})
        logging.getLogger("urllib3.connectionpool").warning("about the sending itself")  # sent, it would never end
        try:
            raise ValueError("broken")
        except ValueError:
            log.exception("test.failed")
        _until(lambda: sum(path == "/v1/logs" for path, *_ in receiver.requests) and len(_records(receiver)) >= 2)
    finally:
        root.handlers[:] = before
        for handler in before:
            handler.filters[:] = filtered[id(handler)]
    first, second = _records(receiver)  # and nothing more
    said = {each.key: each.value for each in first.attributes}
    assert (first.body.string_value, first.severity_text, first.trace_id.hex()) == (
        "test.happened",
        "warning",
        spans.named("work").context.trace_id,
    )
    assert (said["rows"].int_value, said["parts"].string_value, said["logger"].string_value) == (3, '["a", "b"]', "mlops_lab.of_a_test")
    assert second.trace_id == b""
    assert "ValueError: broken" in {each.key: each.value for each in second.attributes}["error"].string_value


def _records(receiver: Receiver) -> list[object]:
    return [
        record
        for path, _, body in list(receiver.requests)
        if path == "/v1/logs"
        for resource in ExportLogsServiceRequest.FromString(body).resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
    ]


def test_the_lines_on_standard_error_name_their_trace() -> None:
    record = logging.makeLogRecord({"name": "n", "msg": "test.happened", "levelname": "INFO"})
    spans = Recorded()
    with spans.span("work"):
        assert trace_ids(record)
    assert json.loads(JsonLines().format(record))["trace_id"] == spans.named("work").context.trace_id
    assert trace_ids(other := logging.makeLogRecord({"name": "n", "msg": "m"}))
    assert "trace_id" not in json.loads(JsonLines().format(other))


@pytest.mark.parametrize(("content", "what"), [("X-Api-Key\n", "line 1"), ("a: b\n\n: c\n", "line 3"), ("name:\n", "line 1")])
def test_a_header_that_is_none_is_told(tmp_path: Path, content: str, what: str) -> None:
    (tmp_path / "headers").write_text(content)
    with pytest.raises(SettingsWrong, match=what):
        headers_in(tmp_path / "headers")
    with pytest.raises(SettingsWrong, match="cannot be read"):
        headers_in(tmp_path / "missing")


def test_only_what_is_asked_for_is_sent() -> None:
    assert not spans_of(TelemetrySettings(otlp="http://127.0.0.1:9", signals="logs"), "inference").on
    assert not spans_of(TelemetrySettings(), "inference").on


def test_metrics_go_out_as_a_scrape_would_read_them(receiver: Receiver, tmp_path: Path) -> None:
    _, service = a_service(tmp_path, OFF)
    for _ in range(3):
        service.answer(a_question())
    said = TelemetrySettings(otlp=receiver.address)
    sender = send_metrics(said, "inference", "replica-1", Metrics(service).collect, every_s=0.05)
    assert sender is not None
    _until(lambda: any(path == "/v1/metrics" for path, *_ in receiver.requests))
    sender.close()

    body = next(body for path, _, body in receiver.requests if path == "/v1/metrics")
    (resource,) = ExportMetricsServiceRequest.FromString(body).resource_metrics
    found = {each.name: each for scope in resource.scope_metrics for each in scope.metrics}
    (replies,) = found["lab_serving_replies"].sum.data_points
    assert {each.key: each.value.string_value for each in replies.attributes} == {"route": "predict", "status": "200"}
    assert (replies.as_double, found["lab_serving_replies"].sum.is_monotonic) == (3.0, True)
    assert found["lab_serving_replies"].sum.aggregation_temporality == 2  # cumulative
    (took,) = found["lab_serving_predict_seconds"].histogram.data_points
    assert (took.count, sum(took.bucket_counts), len(took.bucket_counts)) == (3, 3, len(took.explicit_bounds) + 1)
    assert took.sum > 0
    (version,) = found["lab_serving_model_version"].gauge.data_points
    assert version.as_double == 1.0
    assert send_metrics(TelemetrySettings(otlp=receiver.address, signals="traces"), "inference", "", list) is None


def test_a_histogram_keeps_its_buckets_apart() -> None:
    family = HistogramMetricFamily("took", "How long.", labels=["route"])
    family.add_metric(["a"], buckets=[("0.1", 2), ("0.5", 5), ("+Inf", 9)], sum_value=4.5)
    family.add_metric(["b"], buckets=[("0.1", 0), ("0.5", 0), ("+Inf", 1)], sum_value=7.0)
    first, second = histograms(family)
    assert (first.labels, first.bounds, first.counts, first.sum) == ({"route": "a"}, [0.1, 0.5], [2, 3, 4], 4.5)
    assert (second.labels, second.counts, second.sum) == ({"route": "b"}, [0, 0, 1], 7.0)


def test_metrics_that_nobody_takes_cost_nothing_and_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    tried: list[int] = []

    def fails(families: Sequence[object]) -> bool:
        tried.append(len(families))
        raise OSError("nobody listens")

    with caplog.at_level(logging.WARNING, "mlops_lab.telemetry"):
        sender = MetricsSender(list, lambda: fails, every_s=0.01)
        _until(lambda: len(tried) >= 3)
        sender.close()
    assert [record.getMessage() for record in caplog.records] == ["telemetry.not_sent"]


def test_what_is_lost_is_a_metric(tmp_path: Path) -> None:
    replica = a_replica(tmp_path, spans=Spans(lambda span: None, 1.0, lambda: 17))
    assert b"lab_telemetry_spans_dropped_total 17.0" in Metrics(Service(replica.parts)).text()
