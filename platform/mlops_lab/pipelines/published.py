"""What was published about a span of event time, read back from the bus, with what shows that a fact came late."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from mlops_lab.errors import MessageUnreadable
from mlops_lab.events import Delivery, Message, Topics
from mlops_lab.events.reading import everything

DISORDER = timedelta(days=2)
"""How far in event time messages of one partition may be out of order and are still found."""
_STEADY = 2_000
"""Messages in a row behind a span after which nothing of it is expected any more."""
_FEW = 10_000
"""Messages that are read more quickly than a place among them is looked for."""
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


class Published(NamedTuple):
    """One message as it lies on the bus.

    Attributes:
        message: What it says.
        topic: Where,
        partition: in which partition,
        offset: at which place.
        seen: Event time up to which its partition had come before it: behind this the message came late.
    """

    message: Message
    topic: str
    partition: int
    offset: int
    seen: datetime

    @property
    def late_min(self) -> float:
        """Minutes of event time by which newer messages were ahead of it; 0 where it came in order."""
        return max(0.0, (self.seen - self.message.at).total_seconds() / 60)


def published(bus: Topics, topic: str, after: datetime, until: datetime) -> list[Published]:
    """The messages of a topic whose event time lies in (after, until], partition by partition, in the order of publication.

    What was published more than `DISORDER` out of order may be missing. What is no message is left out.

    Raises:
        BusUnreachable: The bus does not answer.
    """
    return [one for partition in range(bus.partitions(topic)) for one in _of_partition(bus, topic, partition, after, until)]


def all_of(bus: Topics, topic: str) -> list[Message]:
    """Every message of a topic. For topics that are small, or compacted."""
    found = (one for partition in range(bus.partitions(topic)) for one in everything(bus, topic, partition))
    return [one.message for one in found if isinstance(one, Delivery)]


def _of_partition(bus: Topics, topic: str, partition: int, after: datetime, until: datetime) -> Iterator[Published]:
    seen, behind = _LONG_AGO, 0
    for found in everything(bus, topic, partition, _before(bus, topic, partition, after - DISORDER)):
        if isinstance(found, MessageUnreadable):
            continue
        at = found.message.at
        if after < at <= until:
            yield Published(found.message, topic, partition, found.offset, seen)
        behind = behind + 1 if at > until + DISORDER else 0
        if behind > _STEADY:
            return
        seen = max(seen, at)


def _before(bus: Topics, topic: str, partition: int, at: datetime) -> int:
    """An offset before which everything is older than a moment, but for disorder."""
    low, high = 0, bus.head(topic, partition)
    while high - low > _FEW:
        middle = (low + high) // 2
        try:
            found = bus.read(topic, middle, 1, partition)
        except MessageUnreadable as error:
            if error.offset >= high:
                high = middle
            else:
                low = error.offset
            continue
        if not found or found[0].message.at > at or found[0].offset > high:
            high = middle
        else:
            low = found[0].offset
    return low
