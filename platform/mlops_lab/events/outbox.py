"""The outbox: messages wait in the database that holds what they speak of, until the bus has them."""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Protocol

from mlops_lab.events.message import Message
from mlops_lab.events.port import EventBus


@dataclass(frozen=True, slots=True)
class Pending:
    """A message that was decided on but may not be on the bus yet.

    Attributes:
        position: 1, 2, 3, ... in the order in which the transactions were committed.
        topic: Where it goes.
        message: What is said.
    """

    position: int
    topic: str
    message: Message


class Outbox(Protocol):
    """Where unsent messages wait. Kept by `on_sql.py`, in the transaction of what they report."""

    def pending(self, limit: int = 500) -> Sequence[Pending]:
        """The first unsent messages, in order; empty when all are sent."""
        ...

    def mark_sent(self, positions: Sequence[int]) -> None:
        """Remember that these are on the bus. Marking twice changes nothing."""
        ...

    def sent(self, topic: str) -> Set[str]:
        """Ids of the messages that were marked."""
        ...


def relay(outbox: Outbox, bus: EventBus, limit: int = 500) -> int:
    """Publish everything that waits, in order per topic, and mark it sent.

    It may die anywhere and run in several processes at once: a message is marked after the bus has it, and the bus
    skips ids it knows, so each message is on the bus once and none overtakes another of its topic.

    Args:
        outbox: Where messages wait.
        bus: Where they go.
        limit: Messages per round.

    Returns:
        How many messages were handed over by this call.

    Raises:
        BusUnreachable: The bus does not take them; they keep waiting, call again later.
    """
    handed_over = 0
    while waiting := outbox.pending(limit):
        topics: dict[str, list[Message]] = {}
        for each in waiting:
            topics.setdefault(each.topic, []).append(each.message)
        for topic, messages in topics.items():
            bus.publish(topic, messages)
        outbox.mark_sent([each.position for each in waiting])
        handed_over += len(waiting)
    return handed_over
