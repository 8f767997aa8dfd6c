"""What goes along when a home changes its bus: the facts that features look back on, and what readers have not worked on yet."""

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from mlops_lab.bootstrap import Lab
from mlops_lab.errors import BusUnreachable, MessageUnsendable, ServiceError
from mlops_lab.events import CONTROL, FEEDBACK, OBSERVATIONS, REFERENCES, EventBus, Message
from mlops_lab.events.schema import FUTURE_TOLERANCE
from mlops_lab.events.spool import SpooledBus
from mlops_lab.events.topics import SCHEDULE
from mlops_lab.features.processor import WINDOW
from mlops_lab.features.stream import Recent, Stretch, onwards
from mlops_lab.pipelines.readers import READERS

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Carried:
    """How many messages of a topic went along, and how many could not: unreadable there, or none that the other bus takes."""

    topic: str
    taken: int = 0
    left: int = 0


def take_along(source: Lab, target: Lab) -> list[Carried]:
    """`carry_over` from the bus that a home had to the one that it is going to have; nothing where nothing was ever published.

    Args:
        source: The home with its former parts, said by its settings.
        target: The same home with its new ones.

    Raises:
        ServiceError: One of the two does not answer. Nothing is lost, do it again.
    """
    if source.settings.events.bus != "kafka" and not source.settings.bus_file.is_file():
        return []
    try:
        _drain(source.bus)
        carried = carry_over(source.bus, target.bus, source.clock.now())
        _drain(target.bus)  # what waits in the spool is not on the broker yet
    except BusUnreachable as error:
        what = f"What readers still need could not be brought from the former bus to the new one: {error.what}"
        raise ServiceError(what, f"{error.next_step.rstrip('.')}, then the same again.") from error
    return carried


def _drain(bus: EventBus) -> None:
    """Hand over what waits for the broker. Raises BusUnreachable."""
    while isinstance(bus, SpooledBus) and bus.waiting():
        if not bus.drain():
            time.sleep(0.1)  # another process is at it


def carry_over(source: EventBus, target: EventBus, now: datetime) -> list[Carried]:
    """Bring over the last 36 hours of facts and plans, all references, and orders and outcomes that a reader has still to take.

    Again it has no second effect: rows are made of a set of facts, and who takes orders or outcomes knows them by their ids.
    What is older stays where it is, and so do answers that were told: nobody reads on from them.

    Args:
        source: Where they are.
        target: Where they are to be.
        now: Wall time. What lies before it is no fact, and does not say how far 36 hours go back.

    Raises:
        BusUnreachable: One of the two does not answer. Nothing is lost, do it again.
    """
    return [_carry(source, target, topic, now) for topic in (REFERENCES, OBSERVATIONS, SCHEDULE, CONTROL, FEEDBACK)]


def _carry(source: EventBus, target: EventBus, topic: str, now: datetime) -> Carried:
    done = Carried(topic)
    for partition in range(source.partitions(topic)):
        for stretch in _wanted(source, topic, partition, now):
            done.left += stretch.unreadable is not None
            messages = [delivery.message for delivery in stretch.deliveries]
            done.taken += len(messages)
            unsendable = _publish(target, topic, messages)
            done.taken -= unsendable
            done.left += unsendable
    return done


def _wanted(source: EventBus, topic: str, partition: int, now: datetime) -> Iterable[Stretch]:
    if topic == REFERENCES:
        return onwards(source, topic, 0, partition=partition)
    if topic in (OBSERVATIONS, SCHEDULE):
        limit = now + FUTURE_TOLERANCE
        head = source.head(topic, partition)
        return Recent(source, topic, head, WINDOW, partition, lambda delivery: delivery.message.at <= limit).read()
    finished = min(source.committed(reader.group, topic, partition) for reader in READERS if topic in reader.topics)
    return onwards(source, topic, finished, partition=partition)


def _publish(target: EventBus, topic: str, messages: Sequence[Message]) -> int:
    """Returns how many could not be sent."""
    try:
        target.publish(topic, messages)
        return 0
    except MessageUnsendable:
        return sum(_refused(target, topic, messages))


def _refused(target: EventBus, topic: str, messages: Sequence[Message]) -> Iterator[bool]:
    for message in messages:
        try:
            target.publish(topic, [message])
        except MessageUnsendable as error:
            log.error("moving.left", extra={"topic": topic, "id": message.id, "why": error.what})
            yield True
