"""Spans as lines of a file, each an OTLP request in JSON, as the collector's file exporter writes it: for a machine without a collector."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from mlops_lab.telemetry.span import Attribute, Kind, Span

LIMIT_BYTES = 64 * 1024 * 1024

_KINDS = {Kind.INTERNAL: 1, Kind.SERVER: 2, Kind.PRODUCER: 4, Kind.CONSUMER: 5}

_log = logging.getLogger(__name__)


class SpanFile:
    """Appends each span with one call to the system. What cannot be written is counted and otherwise left out."""

    def __init__(self, path: Path, resource: Mapping[str, Attribute], limit_bytes: int = LIMIT_BYTES) -> None:
        """Args:
        path: Made with its folder at the first span. Several processes may append to it.
        resource: Who writes: `service.name` and so on.
        limit_bytes: No span is written behind it.
        """
        self._path = path
        self._resource = {"attributes": _attributes(resource)}
        self._limit_bytes = limit_bytes
        self._fd: int | None = None
        self._failing = False
        self.dropped = 0

    def put(self, span: Span) -> None:
        """See `Sink`."""
        line = orjson.dumps({"resourceSpans": [{"resource": self._resource, "scopeSpans": [_scope(span)]}]}) + b"\n"
        try:
            if self._fd is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            if os.fstat(self._fd).st_size + len(line) > self._limit_bytes:
                raise OSError(f"it has reached its limit of {self._limit_bytes} bytes")
            os.write(self._fd, line)
            self._failing = False
        except OSError as error:
            self.dropped += 1
            if not self._failing:
                _log.warning("telemetry.not_written", extra={"file": str(self._path), "why": str(error)})
            self._failing = True


def _scope(span: Span) -> dict[str, Any]:
    said: dict[str, Any] = {
        "traceId": span.context.trace_id,
        "spanId": span.context.span_id,
        "parentSpanId": span.parent,
        "name": span.name,
        "kind": _KINDS[span.kind],
        "startTimeUnixNano": str(span.start_ns),
        "endTimeUnixNano": str(span.end_ns),
        "attributes": _attributes(span.attributes),
        "links": [{"traceId": link.trace_id, "spanId": link.span_id} for link in span.links],
        "status": {"code": 2, "message": span.error} if span.error else {},
    }
    return {"scope": {"name": "mlops_lab"}, "spans": [said]}


def _attributes(values: Mapping[str, Attribute]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in values.items()]


def _value(value: Attribute) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}  # 64 bits are a text in JSON
    return {"doubleValue": value} if isinstance(value, float) else {"stringValue": value}
