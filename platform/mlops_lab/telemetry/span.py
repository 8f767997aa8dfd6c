"""A piece of work with its beginning, its end and what led to it; and who makes them. No framework, no I/O."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from random import random
from time import time_ns

from mlops_lab.telemetry.context import TraceContext, _current, current

Attribute = str | int | float | bool


class Kind(StrEnum):
    """Which side of a call or a message a span is."""

    INTERNAL = "internal"
    SERVER = "server"
    PRODUCER = "producer"
    CONSUMER = "consumer"


@dataclass(slots=True)
class Span:
    """Names and attributes follow OpenTelemetry's conventions where there is one; our own attributes begin with `lab.`.

    Attributes:
        name: Of the kind of work; few different ones.
        context: Its own place.
        parent: What it is a part of, 16 hexadecimal digits; empty for the root of a trace.
        kind: See `Kind`.
        start_ns: Unix time in nanoseconds.
        end_ns: The same.
        attributes: Ids and numbers, never features or outcomes.
        links: What led to it without being its parent, such as an order that was given hours before.
        error: Why it failed; empty where it did not.
    """

    name: str
    context: TraceContext
    parent: str = ""
    kind: Kind = Kind.INTERNAL
    start_ns: int = 0
    end_ns: int = 0
    attributes: dict[str, Attribute] = field(default_factory=dict)
    links: tuple[TraceContext, ...] = ()
    error: str = ""


Sink = Callable[[Span], None]
"""Takes a span that has ended. It may not raise and not wait."""


class Spans:
    """Makes the spans of one process. Without a sink it makes none and costs next to nothing."""

    def __init__(self, sink: Sink | None = None, sample: float = 0.0, dropped: Callable[[], int] = lambda: 0) -> None:
        """Args:
        sink: Where spans go.
        sample: Share of the requests without a trace that begin one, 0 to 1.
        dropped: Tells how many spans were lost on the way.
        """
        self._sink = sink
        self._sample = sample
        self._dropped = dropped

    @property
    def on(self) -> bool:
        """Whether anything is recorded."""
        return self._sink is not None

    @property
    def dropped(self) -> int:
        """Spans that were made and could not be handed on."""
        return self._dropped()

    def of_request(self, traceparent: str | None) -> TraceContext | None:
        """The caller's place if this request is to be traced, None if not. A caller decides for its request; for those that do not, chance.

        A request that begins a trace is its own caller: the place that is returned has an empty span id.

        Args:
            traceparent: As `read_traceparent` gives it.
        """
        if self._sink is None:
            return None
        if traceparent is not None:
            return TraceContext(traceparent[3:35], traceparent[36:52]) if int(traceparent[53:55], 16) & 1 else None
        return TraceContext(TraceContext.new().trace_id, "") if self._sample and random() < self._sample else None

    def put(self, span: Span) -> None:
        """Hand on a span that has ended."""
        if self._sink is not None:
            self._sink(span)

    @contextmanager
    def span(
        self,
        name: str,
        *,
        parent: TraceContext | None = None,
        links: Iterable[TraceContext | None] = (),
        kind: Kind = Kind.INTERNAL,
        root: bool = False,
        attributes: Mapping[str, Attribute] | None = None,
    ) -> Iterator[Span | None]:
        """Run the body as a span, which is `current` inside. An error that leaves it marks the span and goes on.

        Args:
            name: See Span.
            parent: What it is a part of; without one the span that this is called in, if any.
            links: See Span; None is left out.
            kind: See Span.
            root: Begin a new trace whatever this is called in.
            attributes: See Span; the body may add some.

        Returns:
            The span; None where nothing is recorded.
        """
        if self._sink is None:
            yield None
            return
        above = None if root else parent or current()
        if above is not None and not above.sampled:
            above = None
        made = Span(
            name,
            above.child() if above else TraceContext.new(),
            above.span_id if above else "",
            kind,
            time_ns(),
            attributes=dict(attributes or {}),
            links=tuple(link for link in links if link is not None),
        )
        token = _current.set(made.context)
        try:
            yield made
        except BaseException as error:
            made.error = f"{type(error).__name__}: {error}"[:500]
            raise
        finally:
            _current.reset(token)
            made.end_ns = time_ns()
            self._sink(made)


OFF = Spans()
"""Records nothing."""
