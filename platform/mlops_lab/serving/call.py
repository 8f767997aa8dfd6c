"""One request on its way through the service, what goes back, and who waits for it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Protocol

from mlops_lab.serving.answered import Answered
from mlops_lab.serving.traced import Traced

Header = tuple[bytes, bytes]

PREDICT, FEEDBACK = "predict", "feedback"


@dataclass(slots=True)
class Reply:
    """What goes back: a status, header pairs, a body."""

    status: int
    headers: list[Header]
    body: bytes


@dataclass(slots=True)
class Call:
    """One request on its way through the service.

    Attributes:
        route: `predict` or `feedback`.
        headers: Names in lower case.
        body: All of it.
        came: `perf_counter` when its last byte was here.
        request_id: The caller's, or made.
        reply: What goes back, once `Service.settle` was called.
        logged: The reply speaks of something in the log, so it waits until that is safe.
        key: Its Idempotency-Key, if this call's answer is kept under it.
        event_ids: Outcomes that count as seen because of this call.
        answered: What it was answered.
        like: An earlier call with the same key that came in together with this one; the reply is its reply.
        traced: Its place in a trace, if it is recorded.
    """

    route: str
    headers: Sequence[Header]
    body: bytes
    came: float = field(default_factory=perf_counter)
    request_id: str | None = None
    reply: Reply | None = None
    logged: bool = False
    key: str | None = None
    event_ids: tuple[str, ...] = ()
    answered: Answered | None = None
    like: "Call | None" = None
    traced: Traced | None = None


class Asker(Protocol):
    """Who waits for one reply."""

    def reply(self, reply: Reply) -> None:
        """Here it is; called once."""
        ...

    def drop(self) -> None:
        """It could not be given: end what it was to go to."""
        ...
