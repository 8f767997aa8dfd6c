"""What a dead letter is: an event itself, which holds another one that could not be worked on, byte by byte where it is none."""

import base64
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field
from typing_extensions import TypedDict

from mlops_lab.clock import from_iso, iso
from mlops_lab.errors import MessageUnreadable
from mlops_lab.events.message import Message
from mlops_lab.events.schema import DEAD, EventType, closed, subject

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


def _written(raw: bytes) -> tuple[str, Bytes]:
    """As text where it is text and that is not the longer way: a letter has to fit into a topic, whatever it holds."""
    try:
        text = raw.decode()
        if len(json.dumps(text)) <= len(raw) * 4 // 3 + 2:
            return text, "utf-8"
    except UnicodeDecodeError:
        pass
    return base64.b64encode(raw).decode(), "base64"
