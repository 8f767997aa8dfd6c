"""The event bus: durable, ordered per topic, at least once, with named consumer groups that remember where they are."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from mlops_lab.events.message import Message


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message as read from a topic, with its position in its partition (1, 2, 3, ..., gaps allowed)."""

    offset: int
    message: Message
    partition: int = 0


class Topics(Protocol):
    """What can be read of a bus. A topic is one partition or several, each with an order of its own; messages of one key share one."""

    def partitions(self, topic: str) -> int:
        """How many partitions a topic has, at least 1; they are numbered from 0."""
        ...

    def read(self, topic: str, after: int, limit: int = 1000, partition: int = 0) -> Sequence[Delivery]:
        """Up to `limit` messages of a partition behind offset `after`, in order; empty when there are none yet.

        Raises:
            BusUnreachable: It does not answer.
            MessageUnreadable: The very next message is none. Fewer than there are may come before it.
        """
        ...

    def head(self, topic: str, partition: int = 0) -> int:
        """The offset of the newest message; 0 when the partition is empty."""
        ...

    def log_id(self, topic: str) -> str:
        """What tells a topic from another one of its name: offsets count anew in a topic, or a bus, that was made anew."""
        ...


class EventBus(Topics, Protocol):
    """Where facts and orders travel, at least once: readers take the same id twice for once. Kept by `on_sqlite.py` and `on_kafka.py`."""

    def publish(self, topic: str, messages: Iterable[Message]) -> int:
        """Append to a topic, in order per key. Returns how many were appended.

        The embedded log takes all or none and skips ids it has. A broker may have taken some when it fails, and takes an id twice:
        publish all of them again.

        Raises:
            BusUnreachable: They are not all there; no message overtook another of its key.
        """
        ...

    def waiting(self) -> Mapping[str, int]:
        """By topic, how many messages `publish` has taken that readers cannot see yet; topics without any are left out."""
        ...

    def committed(self, group: str, topic: str, partition: int = 0) -> int:
        """The offset up to which a consumer group has finished its work; 0 at first."""
        ...

    def commit(self, group: str, topic: str, offset: int, partition: int = 0) -> None:
        """Remember that all up to `offset` is done. Going back is allowed: that is how a topic is replayed."""
        ...

    def groups(self, topic: str) -> Sequence[str]:
        """The consumer groups that have committed something of a topic, by name."""
        ...
