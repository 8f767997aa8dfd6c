"""Spans, log lines and metrics out by OTLP over HTTP, with OpenTelemetry's own exporters. Imported by the thread that sends only."""

import logging
from collections.abc import Mapping, Sequence
from time import time_ns

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExportResult
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from mlops_lab.telemetry.context import TraceContext
from mlops_lab.telemetry.log_lines import Line
from mlops_lab.telemetry.metrics import Family, histograms, numbers
from mlops_lab.telemetry.span import Attribute, Kind, Span

_KINDS = {
    Kind.INTERNAL: SpanKind.INTERNAL,
    Kind.SERVER: SpanKind.SERVER,
    Kind.PRODUCER: SpanKind.PRODUCER,
    Kind.CONSUMER: SpanKind.CONSUMER,
}
_SCOPE = InstrumentationScope("mlops_lab")


class _LastWords(logging.Handler):
    """What the exporters said last. They speak at each try, and whoever sends says it once."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text = record.getMessage()[:300]


_words = _LastWords()
_exporters = logging.getLogger("opentelemetry.exporter.otlp")
_exporters.addHandler(_words)
_exporters.propagate = False


def _require(taken: bool) -> bool:
    """True. Raises OSError with the exporter's reason."""
    if not taken:
        raise OSError(_words.text or "it was not taken")
    return True


class OtlpSpans:
    """Sends spans."""

    def __init__(self, address: str, headers: Mapping[str, str], timeout_s: float, resource: Mapping[str, Attribute]) -> None:
        """Args:
        address: Of the receiver, without `/v1/traces`.
        headers: Sent along, such as a vendor's key.
        timeout_s: For one batch with all its tries.
        resource: Who sends.
        """
        self._exporter = OTLPSpanExporter(
            f"{address.rstrip('/')}/v1/traces", headers=dict(headers), timeout=timeout_s, compression=Compression.Gzip
        )
        self._resource = Resource(dict(resource))

    def send(self, spans: Sequence[Span]) -> bool:
        """True. Raises OSError where the receiver did not take them."""
        return _require(self._exporter.export([readable(span, self._resource) for span in spans]) is SpanExportResult.SUCCESS)


class OtlpLines:
    """Sends log lines; see `OtlpSpans`."""

    def __init__(self, address: str, headers: Mapping[str, str], timeout_s: float, resource: Mapping[str, Attribute]) -> None:
        self._exporter = OTLPLogExporter(
            f"{address.rstrip('/')}/v1/logs", headers=dict(headers), timeout=timeout_s, compression=Compression.Gzip
        )
        self._resource = Resource(dict(resource))

    def send(self, lines: Sequence[Line]) -> bool:
        """See `OtlpSpans.send`."""
        return _require(self._exporter.export([self._record(line) for line in lines]) is LogRecordExportResult.SUCCESS)

    def _record(self, line: Line) -> ReadableLogRecord:
        trace = line.trace
        record = LogRecord(
            timestamp=line.at_ns,
            observed_timestamp=line.at_ns,
            severity_text=line.level,
            severity_number=_SEVERITIES.get(line.level, SeverityNumber.INFO),
            body=line.event,
            attributes={"logger": line.logger, **line.fields},
            trace_id=int(trace.trace_id, 16) if trace else 0,
            span_id=int(trace.span_id, 16) if trace else 0,
            trace_flags=TraceFlags(TraceFlags.SAMPLED if trace and trace.sampled else TraceFlags.DEFAULT),
        )
        return ReadableLogRecord(record, self._resource, _SCOPE)


class OtlpMetrics:
    """Sends metrics; see `OtlpSpans`. Counters and histograms count from the start of the process."""

    def __init__(self, address: str, headers: Mapping[str, str], timeout_s: float, resource: Mapping[str, Attribute]) -> None:
        self._exporter = OTLPMetricExporter(
            f"{address.rstrip('/')}/v1/metrics", headers=dict(headers), timeout=timeout_s, compression=Compression.Gzip
        )
        self._resource = Resource(dict(resource))
        self._since_ns = time_ns()

    def send(self, families: Sequence[Family]) -> bool:
        """See `OtlpSpans.send`."""
        metrics = [made for family in families if (made := self._metric(family, time_ns())) is not None]
        data = MetricsData([ResourceMetrics(self._resource, [ScopeMetrics(_SCOPE, metrics, "")], "")])
        return _require(self._exporter.export(data) is MetricExportResult.SUCCESS)

    def _metric(self, family: Family, now_ns: int) -> Metric | None:
        since, total = self._since_ns, AggregationTemporality.CUMULATIVE
        data: Sum | Gauge | Histogram
        if family.type == "histogram":
            points = [
                HistogramDataPoint(
                    dict(each.labels), since, now_ns, sum(each.counts), each.sum, each.counts, each.bounds, float("nan"), float("nan")
                )
                for each in histograms(family)
            ]
            data = Histogram(points, total)
        elif family.type == "counter":
            data = Sum([NumberDataPoint(dict(labels), since, now_ns, value) for labels, value in numbers(family)], total, is_monotonic=True)
        elif family.type == "gauge":
            data = Gauge([NumberDataPoint(dict(labels), 0, now_ns, value) for labels, value in numbers(family)])
        else:
            return None
        return Metric(family.name, family.documentation, None, data) if data.data_points else None


_SEVERITIES = {
    "debug": SeverityNumber.DEBUG,
    "info": SeverityNumber.INFO,
    "warning": SeverityNumber.WARN,
    "error": SeverityNumber.ERROR,
    "critical": SeverityNumber.FATAL,
}


def readable(span: Span, resource: Resource) -> ReadableSpan:
    """A span as the SDK's exporters want it."""
    return ReadableSpan(
        span.name,
        context=_context(span.context, remote=False),
        parent=_context(TraceContext(span.context.trace_id, span.parent), remote=span.kind is not Kind.INTERNAL) if span.parent else None,
        resource=resource,
        attributes=span.attributes,
        links=[Link(_context(link, remote=True)) for link in span.links],
        kind=_KINDS[span.kind],
        instrumentation_scope=_SCOPE,
        status=Status(StatusCode.ERROR, span.error) if span.error else Status(StatusCode.UNSET),
        start_time=span.start_ns,
        end_time=span.end_ns,
    )


def _context(context: TraceContext, *, remote: bool) -> SpanContext:
    return SpanContext(int(context.trace_id, 16), int(context.span_id, 16), is_remote=remote, trace_flags=TraceFlags(int(context.sampled)))
