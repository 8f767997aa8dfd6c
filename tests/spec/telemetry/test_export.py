"""Spans, log lines and metrics go out to a collector, and nobody who asks or answers waits for it."""

import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import monotonic

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.core import HistogramMetricFamily

from mlops_lab.bootstrap.telemetry import headers_in, send_logs, send_metrics, spans_of
from mlops_lab.errors import SettingsWrong
from mlops_lab.logs import JsonLines
from mlops_lab.serving.on_prometheus import Metrics
from mlops_lab.serving.service import Service
from mlops_lab.settings import TelemetrySettings
from mlops_lab.telemetry import OFF, Spans
from mlops_lab.telemetry.log_lines import trace_ids
from mlops_lab.telemetry.metrics import MetricsSender, histograms
from otlp_receiver import Receiver
from serving_builders import a_replica
from telemetry_builders import CALLER, Recorded, a_question, a_service
from waiting import until


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


def test_spans_go_out_by_otlp_with_the_vendors_headers(receiver: Receiver, tmp_path: Path) -> None:
    (tmp_path / "headers").write_text("# of the vendor\n\nX-Api-Key: secret: with a colon\n")
    said = TelemetrySettings(otlp=receiver.address, headers_file=tmp_path / "headers", sample=1)
    spans = spans_of(said, "inference", "replica-1")
    _, service = a_service(tmp_path, spans)

    assert service.answer(a_question(CALLER.traceparent)).status == 200

    until(lambda: len(receiver.spans()) >= 4)
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
        until(lambda each=each: each.dropped >= 150)  # type: ignore[misc]
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
        until(lambda: sum(path == "/v1/logs" for path, *_ in receiver.requests) and len(_records(receiver)) >= 2)
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
    until(lambda: any(path == "/v1/metrics" for path, *_ in receiver.requests))
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
        until(lambda: len(tried) >= 3)
        sender.close()
    assert [record.getMessage() for record in caplog.records] == ["telemetry.not_sent"]


def test_what_is_lost_is_a_metric(tmp_path: Path) -> None:
    replica = a_replica(tmp_path, spans=Spans(lambda span: None, 1.0, lambda: 17))
    assert b"lab_telemetry_spans_dropped_total 17.0" in Metrics(Service(replica.parts)).text()
