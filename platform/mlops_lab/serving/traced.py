"""The spans of a traced request: noted while it is worked on, made when it is answered. What is not traced pays for one comparison."""

from dataclasses import dataclass, field
from time import perf_counter_ns, time_ns
from typing import NamedTuple

from mlops_lab.telemetry import Kind, Span, Spans, TraceContext
from mlops_lab.telemetry.span import Attribute


class Part(NamedTuple):
    """A part of the work on a turn, by `perf_counter`; the turn's other requests share it. `until` is None for until the reply."""

    name: str
    since: float
    until: float | None


@dataclass(slots=True)
class Traced:
    """Where a request is in its trace.

    Attributes:
        context: Of its span: what the log and the bus carry on.
        parent: Of the caller's span, 16 hexadecimal digits; empty where the trace begins here.
        parts: So far.
    """

    context: TraceContext
    parent: str
    parts: list[Part] = field(default_factory=list)


def begin(spans: Spans, traceparent: str | None) -> Traced | None:
    """Whether a request is traced, and where."""
    caller = spans.of_request(traceparent)
    return None if caller is None else Traced(caller.child(), caller.span_id)


def end(spans: Spans, traced: Traced, route: str, came: float, now: float, status: int, said: dict[str, Attribute]) -> None:
    """Hand on the spans of a request and of its parts.

    Args:
        spans: Where to.
        traced: Of the request.
        route: `predict` or `feedback`.
        came: `perf_counter` of its last byte.
        now: The same of its reply.
        status: HTTP status of the reply.
        said: Further attributes.
    """
    to_wall_ns = time_ns() - perf_counter_ns()
    attributes: dict[str, Attribute] = {
        "http.request.method": "POST",
        "http.route": f"/v1/{route}",
        "http.response.status_code": status,
        **said,
    }
    request = Span(f"POST /v1/{route}", traced.context, traced.parent, Kind.SERVER, _ns(came, to_wall_ns), _ns(now, to_wall_ns), attributes)
    if status >= 500:  # what the caller did wrong is no failure of this span, by the conventions
        request.error = str(status)
    spans.put(request)
    for part in traced.parts:
        until = now if part.until is None else part.until
        spans.put(
            Span(
                part.name,
                traced.context.child(),
                traced.context.span_id,
                start_ns=_ns(part.since, to_wall_ns),
                end_ns=_ns(until, to_wall_ns),
            )
        )


def _ns(counter: float, to_wall_ns: int) -> int:
    return int(counter * 1_000_000_000) + to_wall_ns
