"""Dead letters: events that could not be worked on, kept with the reason and their bytes until somebody has them tried again."""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field
from typing_extensions import TypedDict

from mlops_lab.clock import from_iso, iso
from mlops_lab.errors import EventRefused, LabError, MessageUnreadable
from mlops_lab.events.message import Message
from mlops_lab.events.port import Delivery, EventBus, Topics
from mlops_lab.events.reading import everything
from mlops_lab.events.schema import DEAD, EventType, EventTypes, closed, subject
from mlops_lab.events.topics import dead_of

UNREADABLE = "unreadable"
NOT_APPLIED = "not_applied"
"""Reasons beside those of `EventRefused`: no CloudEvent at all; and one that is in order, but what it is for failed on it."""

Bytes = Literal["utf-8", "base64"]


@closed
class _Letter(TypedDict):
    """What lies there and why."""

    topic: Annotated[str, Field(description="Where the event was read.")]
    partition: Annotated[int, Field(ge=0, description="Of the topic.")]
    offset: Annotated[int, Field(ge=1, description="In the partition.")]
    reason: Annotated[str, Field(description="`unreadable`, `not_applied`, or why it was refused, such as `unknown_version`.")]
    why: Annotated[str, Field(description="The same as a sentence, with the values that prove it.")]
    next: Annotated[str, Field(description="What to do about it.")]
    field: Annotated[str, Field(description="The attribute of the CloudEvent that is wrong; empty where it is none.")]
    tries: Annotated[int, Field(ge=1, description="How often it was tried.")]
    first_at: Annotated[str, Field(description="Wall time of the first try, ISO 8601 in UTC.")]
    last_at: Annotated[str, Field(description="Wall time of the last try.")]
    raw: Annotated[str, Field(description="The event as it was on the topic.")]
    encoding: Annotated[Bytes, Field(description="What `raw` is written in.")]


@closed
class _Retried(TypedDict):
    """That it was published again."""

    by: Annotated[str, Field(description="Who asked for it.")]
    published: Annotated[str, Field(description="Id under which the event is on its topic again.")]


DEAD_LETTER = EventType(
    name="DeadLetter",
    topic=DEAD,
    meaning="An event could not be worked on. Its id says where it was read: topic/partition/offset.",
    data=_Letter,
    subject=subject("topic/partition/offset of the event"),
    key=subject("the same"),
    example={
        "topic": "observations",
        "partition": 3,
        "offset": 1204,
        "reason": "malformed_data",
        "why": "Event departed-1 (FlightDeparted) is refused: data.delay_min: input should be a valid integer (found '5').",
        "next": "`lab events schemas FlightDeparted` shows what it has to be; repair its sender.",
        "field": "data.delay_min",
        "tries": 3,
        "first_at": "2026-01-01T12:00:00Z",
        "last_at": "2026-01-01T12:00:02Z",
        "raw": '{"specversion":"1.0","id":"departed-1"}',
        "encoding": "utf-8",
    },
)
RETRIED = EventType(
    name="DeadLetterRetried",
    topic=DEAD,
    meaning="A dead letter was published to its topic again.",
    data=_Retried,
    subject=subject("topic/partition/offset of the event"),
    key=subject("the same"),
    example={"by": "operator", "published": "retry-observations/3/1204"},
)
TYPES = (DEAD_LETTER, RETRIED)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One event that could not be worked on. Attributes as in the event's data; `raw` is bytes."""

    topic: str
    partition: int
    offset: int
    reason: str
    why: str
    next_step: str
    field: str
    tries: int
    first_at: datetime
    last_at: datetime
    raw: bytes

    @property
    def id(self) -> str:
        """`topic/partition/offset`: burying the same event again has the effect of once."""
        return f"{self.topic}/{self.partition}/{self.offset}"

    def event(self) -> Message:
        """The event itself. Raises MessageUnreadable where it is none."""
        try:
            return Message.from_cloudevent(json.loads(self.raw))
        except (ValueError, AttributeError, RecursionError) as error:
            why = f"{type(error).__name__}: {error}"
            raise MessageUnreadable(
                f"Dead letter {self.id} is no CloudEvent: {why}.",
                f"write what it should have been into a file, then `lab events dead --retry {self.id} --repaired FILE`.",
            ) from error

    def to_message(self) -> Message:
        raw, encoding = _written(self.raw)
        data = {
            "topic": self.topic,
            "partition": self.partition,
            "offset": self.offset,
            "reason": self.reason,
            "why": self.why,
            "next": self.next_step,
            "field": self.field,
            "tries": self.tries,
            "first_at": iso(self.first_at),
            "last_at": iso(self.last_at),
            "raw": raw,
            "encoding": encoding,
        }
        return Message(DEAD_LETTER.name, self.last_at, self.id, data, id=self.id)

    @classmethod
    def from_message(cls, message: Message) -> "DeadLetter":
        """Raises KeyError, ValueError or TypeError where it is no dead letter."""
        data: dict[str, Any] = dict(message.data)
        raw = base64.b64decode(data["raw"]) if data.pop("encoding") == "base64" else data["raw"].encode()
        next_step, moments = data.pop("next"), {name: from_iso(data[name]) for name in ("first_at", "last_at")}
        return cls(**{**data, **moments, "raw": raw, "next_step": next_step})


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
        raw = json.dumps(found.message.to_cloudevent(), separators=(",", ":"), ensure_ascii=False).encode()
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


def _written(raw: bytes) -> tuple[str, Bytes]:
    """As text where it is text and that is not the longer way: a letter has to fit into a topic, whatever it holds."""
    try:
        text = raw.decode()
        if len(json.dumps(text)) <= len(raw) * 4 // 3 + 2:
            return text, "utf-8"
    except UnicodeDecodeError:
        pass
    return base64.b64encode(raw).decode(), "base64"
