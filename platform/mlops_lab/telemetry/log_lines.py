"""Log records as values that can be sent, and the ids of the trace that a record was written in."""

import json
import logging
from collections.abc import Callable
from typing import NamedTuple

from mlops_lab.telemetry.context import TraceContext, current
from mlops_lab.telemetry.span import Attribute

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "trace_id", "span_id"}
_OF_SENDERS = ("mlops_lab.telemetry", "opentelemetry", "urllib3", "requests")
"""What these say while lines are sent must not be sent again."""


class Line(NamedTuple):
    """One log line: see `logs.JsonLines` for what its parts mean. `level` is in lower case, `at_ns` Unix time in nanoseconds."""

    at_ns: int
    level: str
    logger: str
    event: str
    fields: dict[str, Attribute]
    trace: TraceContext | None


def trace_ids(record: logging.LogRecord) -> bool:
    """A filter that lets everything pass and writes `trace_id` and `span_id` into a record that belongs to a trace."""
    context = current()
    if context is not None:
        vars(record).update(trace_id=context.trace_id, span_id=context.span_id)
    return True


class LineHandler(logging.Handler):
    """Hands log records on as lines. Never waits."""

    def __init__(self, put: Callable[[Line], None], level: int = logging.INFO) -> None:
        super().__init__(level)
        self._put = put
        self._formatter = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith(_OF_SENDERS):
            return
        fields: dict[str, Attribute] = {
            name: value if isinstance(value, str | int | float | bool) else json.dumps(value, default=str)
            for name, value in vars(record).items()
            if name not in _STANDARD and value is not None
        }
        if record.exc_info:
            fields["error"] = self._formatter.formatException(record.exc_info)
        at_ns = int(record.created * 1_000_000_000)
        self._put(Line(at_ns, record.levelname.lower(), record.name, record.getMessage(), fields, current()))
