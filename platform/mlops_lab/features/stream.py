"""Facts of a partition as its readers need them: onwards from an offset, and, after a restart, the recent ones before it."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import NamedTuple

from mlops_lab.errors import MessageUnreadable
from mlops_lab.events import Delivery, Topics

CHUNK = 1000
_NEVER = datetime.min.replace(tzinfo=UTC)


class Stretch(NamedTuple):
    """Deliveries in order, the offset that is reached with them, and what at that offset is no message."""

    deliveries: Sequence[Delivery]
    offset: int
    unreadable: MessageUnreadable | None = None


def onwards(bus: Topics, topic: str, after: int, until: int | None = None, partition: int = 0) -> Iterator[Stretch]:
    """All stretches behind an offset, up to another one or to the end. Raises BusUnreachable."""
    while until is None or after < until:
        try:
            found = bus.read(topic, after, CHUNK if until is None else min(CHUNK, until - after), partition)
        except MessageUnreadable as error:
            after = error.offset
            yield Stretch((), after, error)
            continue
        if not found:
            return
        if until is not None and found[-1].offset > until:  # offsets may have gaps
            found = [delivery for delivery in found if delivery.offset <= until]
            if not found:
                return
        after = found[-1].offset
        yield Stretch(found, after)


class Recent:
    """The stretches up to an offset, oldest first, read backwards until a whole chunk is older than the window before the newest fact.

    Facts come roughly in order of event time, and never later than the window: what lies before such a chunk is older too.
    """

    def __init__(
        self,
        bus: Topics,
        topic: str,
        until: int,
        window: timedelta,
        partition: int = 0,
        counts: Callable[[Delivery], bool] = lambda delivery: True,
    ) -> None:
        """Args:
        bus: Where.
        topic: What.
        until: The offset.
        window: Event time.
        partition: Its number.
        counts: Whether a delivery is a fact. What is none, such as an event from the future, may be of any time.
        """
        self._bus, self._topic, self._partition = bus, topic, partition
        self._window, self._counts = window, counts
        self._until = until
        self._start = max(0, until - CHUNK)
        self._reached = self._start
        self._chunk: list[Stretch] = []
        self._chunks: list[list[Stretch]] = []
        self._newest = _NEVER

    def read(self) -> list[Stretch]:
        """All of them. After a BusUnreachable, again goes on with what had been read until then."""
        while self._until > 0:
            for stretch in onwards(self._bus, self._topic, self._reached, self._until, self._partition):
                self._chunk.append(stretch)
                self._reached = stretch.offset
            moments = [delivery.message.at for stretch in self._chunk for delivery in stretch.deliveries if self._counts(delivery)]
            if moments and max(moments) < self._oldest:
                break
            # One that is ahead of its neighbours alone is no measure: it may come of a wrong clock.
            self._newest = max([self._newest, *map(min, pairwise(moments))])
            self._chunks.append(self._chunk)
            self._until = self._start
            self._start = self._reached = max(0, self._until - CHUNK)
            self._chunk = []
        return [stretch for chunk in reversed(self._chunks) for stretch in chunk]

    @property
    def _oldest(self) -> datetime:
        return self._newest - self._window if self._newest > _NEVER + self._window else _NEVER
