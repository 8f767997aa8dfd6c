"""Traces of what happens behind the service: answers told, outcomes taken in, and the loop from a decision to a promotion.

A trace of a request goes on to its outcome, whenever that comes. An order is a trace of its own, linked to what gave it, since it may
wait for hours.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from functools import wraps
from time import time_ns
from typing import NamedTuple, ParamSpec, TypeVar

from mlops_lab.bootstrap import Lab
from mlops_lab.events import ANSWERS, FEEDBACK, Message
from mlops_lab.telemetry import Kind, Span, TraceContext

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)


class Reported(NamedTuple):
    """An outcome that was taken in; `traceparent` is that of whoever reported it, None or empty without."""

    prediction_id: str
    event_id: str
    traceparent: object


def step(name: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Let each call of a function be a span. One of its arguments is the lab."""

    def decorate(work: Callable[P, T]) -> Callable[P, T]:
        @wraps(work)
        def traced(*args: P.args, **kwargs: P.kwargs) -> T:
            lab = next(each for each in (*args, *kwargs.values()) if isinstance(each, Lab))
            with lab.spans.span(name):
                return work(*args, **kwargs)

        return traced

    return decorate


def order_carried_out(message: Message, lab: Lab) -> AbstractContextManager[Span | None]:
    """The span in which an order is carried out."""
    return lab.spans.span(
        f"carry out {message.type}",
        kind=Kind.CONSUMER,
        root=True,
        links=[TraceContext.parse(message.traceparent)],
        attributes={"messaging.message.id": message.id, "lab.model": message.subject},
    )


def fact_followed(message: Message, lab: Lab) -> AbstractContextManager[Span | None]:
    """The span in which is done what follows from a fact that belongs to a trace."""
    return lab.spans.span(
        f"follow {message.type}",
        kind=Kind.CONSUMER,
        parent=TraceContext.parse(message.traceparent),
        attributes={"messaging.message.id": message.id, "lab.model": message.subject},
    )


def told(lab: Lab, messages: Sequence[Message], began_ns: int) -> None:
    """Answers are on the bus: note their traces for the outcomes to come."""
    if not lab.spans.on:
        return
    noted: dict[str, TraceContext] = {}
    for message in messages:
        context = TraceContext.parse(message.traceparent)
        if context is not None and context.sampled:
            attributes = {"messaging.destination.name": ANSWERS, "messaging.message.id": message.id}
            lab.spans.put(_part_of(context, f"publish {message.type}", Kind.PRODUCER, began_ns, attributes))
            noted |= dict.fromkeys(message.data["predictions"], context)
    try:
        lab.trace_book.note(noted)
    except OSError as error:
        log.warning("traces.not_noted", extra={"why": str(error)})


def taken_in(lab: Lab, outcomes: Iterable[Reported], began_ns: int) -> None:
    """Outcomes are in their table: each that belongs to a traced prediction goes on with its trace."""
    if not lab.spans.on:
        return
    reports = list(outcomes)
    try:
        found = lab.trace_book.find({each.prediction_id for each in reports})
    except OSError as error:
        log.warning("traces.not_found", extra={"why": str(error)})
        return
    for each in reports:
        context = found.get(each.prediction_id)
        if context is not None:
            attributes = {
                "messaging.destination.name": FEEDBACK,
                "messaging.message.id": each.event_id,
                "lab.prediction_id": each.prediction_id,
            }
            span = _part_of(context, "take in outcome", Kind.CONSUMER, began_ns, attributes)
            reporter = TraceContext.parse(each.traceparent)
            span.links = (reporter,) if reporter is not None and reporter.sampled else ()
            lab.spans.put(span)


def _part_of(context: TraceContext, name: str, kind: Kind, began_ns: int, attributes: dict[str, str]) -> Span:
    return Span(name, context.child(), context.span_id, kind, began_ns, time_ns(), dict(attributes))
