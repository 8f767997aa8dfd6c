"""The event bus: durable, ordered per topic, at least once, with named consumer groups that remember where they are."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from mlops_lab.events.message import Message


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message as read from a topic, with its position in it (1, 2, 3, ...)."""

    offset: int
    message: Message


class Topics(Protocol):
    """What can be read of a bus."""

    def read(self, topic: str, after: int, limit: int = 1000) -> Sequence[Delivery]:
        """Up to `limit` messages behind offset `after`, in order; empty when there are none yet.

        Raises:
            BusUnreachable: It does not answer.
            MessageUnreadable: The very next message is none. Fewer than there are may come before it.
        """
        ...

    def head(self, topic: str) -> int:
        """The offset of the newest message; 0 when the topic is empty."""
        ...


class EventBus(Topics, Protocol):
    """Where facts and orders travel. Kept by `on_sqlite.py`; a broker takes its place behind the same methods."""

    def publish(self, topic: str, messages: Iterable[Message]) -> int:
        """Append to a topic, in order, all or none. Ids already in the topic are skipped. Returns how many were new."""
        ...

    def committed(self, group: str, topic: str) -> int:
        """The offset up to which a consumer group has finished its work; 0 at first."""
        ...

    def commit(self, group: str, topic: str, offset: int) -> None:
        """Remember that all up to `offset` is done. Going back is allowed: that is how a topic is replayed."""
        ...
