"""Dead letters: events that could not be worked on, kept with the reason and their bytes until somebody has them tried again."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from mlops_lab.errors import EventRefused, LabError, MessageUnreadable
from mlops_lab.events.dead_letter import DEAD_LETTER, NOT_APPLIED, RETRIED, UNREADABLE, DeadLetter
from mlops_lab.events.message import Message
from mlops_lab.events.port import Delivery, EventBus, Topics
from mlops_lab.events.reading import everything
from mlops_lab.events.schema import EventTypes
from mlops_lab.events.topics import dead_of

TYPES = (DEAD_LETTER, RETRIED)


def bury(
    bus: EventBus,
    topic: str,
    found: Delivery | MessageUnreadable,
    because: Exception,
    *,
    tries: int,
    first_at: datetime,
    at: datetime,
) -> DeadLetter:
    """Put an event among the dead letters of its topic. Once it has returned, the event may be passed over.

    Args:
        bus: Where the event is.
        topic: Where it was read.
        found: What was read there.
        because: Why it cannot be worked on: EventRefused, MessageUnreadable, or what its handler raised.
        tries: How often it was tried.
        first_at: Wall time of the first try.
        at: Wall time.

    Raises:
        BusUnreachable: It is not there; do not pass the event over, try again.
    """
    if isinstance(found, MessageUnreadable):
        raw = found.raw
    else:
        text = json.dumps(found.message.to_cloudevent(), separators=(",", ":"), ensure_ascii=False)
        raw = text.encode("utf-8", "surrogatepass")  # half a character is JSON to some parsers
    letter = DeadLetter(
        topic=topic,
        partition=found.partition,
        offset=found.offset,
        reason=_reason(because),
        why=because.what if isinstance(because, LabError) else f"{type(because).__name__}: {because}",
        next_step=because.next_step if isinstance(because, LabError) else "read the log of what failed on it, then have it tried again.",
        field=because.field if isinstance(because, EventRefused) else "",
        tries=tries,
        first_at=first_at,
        last_at=at,
        raw=raw,
    )
    bus.publish(dead_of(topic), [letter.to_message()])
    return letter


class Lying(NamedTuple):
    """A dead letter as it lies there; `retried_at` is the wall time at which it was published again, None while it was not."""

    letter: DeadLetter
    retried_at: datetime | None


def dead_letters(bus: Topics, topic: str) -> list[Lying]:
    """The dead letters of a topic, oldest first, each once."""
    letters: dict[tuple[str, bytes], DeadLetter] = {}  # a topic that was made anew counts offsets from 1 again
    retried: dict[str, datetime] = {}
    for message in _messages(bus, dead_of(topic)):
        if message.type == RETRIED.name:
            retried[message.subject] = message.at
        elif message.type == DEAD_LETTER.name:
            letter = DeadLetter.from_message(message)
            letters.setdefault((letter.id, letter.raw), letter)
    return [Lying(letter, retried.get(letter.id)) for letter in sorted(letters.values(), key=lambda each: each.last_at)]


def retry(bus: EventBus, letter: DeadLetter, types: EventTypes, *, by: str, at: datetime, event: Message | None = None) -> Message:
    """Publish the event of a dead letter to its topic again, and record that. A death in between publishes it twice, under one id.

    It gets an id of its own, since the embedded bus takes no id twice; what its type counts by is in its data.

    Args:
        bus: Where it lies.
        letter: What lies there.
        types: What events have to be.
        by: Who wants it.
        at: Wall time.
        event: What it should have been; None publishes it as it is.

    Raises:
        MessageUnreadable: It is no CloudEvent.
        EventRefused: It would be refused again; nothing was published.
        BusUnreachable: Nothing is recorded; try again.
    """
    message = replace(types.checked(event or letter.event(), letter.topic, at), id=f"retry-{letter.id}")
    bus.publish(letter.topic, [message])
    data = {"by": by, "published": message.id}
    bus.publish(dead_of(letter.topic), [Message(RETRIED.name, at, letter.id, data, id=f"retried-{letter.id}")])
    return message


def _messages(bus: Topics, topic: str) -> Iterator[Message]:
    for partition in range(bus.partitions(topic)):
        for found in everything(bus, topic, partition):
            if isinstance(found, Delivery):  # only this module writes there; what somebody else spoilt is shown by `lab events tail`
                yield found.message


def _reason(because: Exception) -> str:
    if isinstance(because, EventRefused):
        return because.reason
    return UNREADABLE if isinstance(because, MessageUnreadable) else NOT_APPLIED
