"""What an event has to be: one type per kind of event, with a version, a schema of its data, and what it is keyed by."""

import difflib
import re
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import SchemaValidator

from mlops_lab.clock import iso
from mlops_lab.errors import EventRefused, UnknownName
from mlops_lab.events.message import SCHEMA, Message

DEAD = "*.dead"
"""In place of a topic: the type belongs on every topic of dead letters."""

FUTURE_TOLERANCE = timedelta(minutes=5)
"""How far an event may lie before the reader's clock: clocks differ a little."""

LONGEST = 100
"""Characters of a stranger's name or value that an error repeats."""

T = TypeVar("T", bound=type)


def closed(data: T) -> T:
    """Decorate the TypedDict (of `typing_extensions`) that describes an event's data: other fields, other types, NaN are refused."""
    return with_config(ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))(data)


class Rule(NamedTuple):
    """What a message's key, or its subject, has to be.

    Attributes:
        says: In words: `the tail number, else the flight id`.
        of: The right one of a message whose data is valid; None where there is none.
    """

    says: str
    of: Callable[[Message], str | None]


def field(name: str, says: str = "") -> Rule:
    """The text that a field of the data holds."""
    return Rule(says or f"data.{name}", lambda message: message.data[name])


def subject(says: str) -> Rule:
    """Whatever the subject is."""
    return Rule(says, lambda message: message.subject or None)


def matching(pattern: str, says: str) -> Rule:
    """A subject of a certain look."""
    known = re.compile(pattern)
    return Rule(says, lambda message: message.subject if known.fullmatch(message.subject) else None)


class _Untitled(GenerateJsonSchema):
    """Without titles, which would say each field's name once more."""

    def field_title_should_be_set(self, schema: object) -> bool:
        return False


@dataclass(frozen=True)
class EventType:
    """One kind of event.

    Attributes:
        name: CloudEvents `type`: past tense for a fact, imperative for an order.
        topic: Where it travels, and nowhere else; `DEAD` for all topics of dead letters.
        meaning: A sentence.
        data: A TypedDict under `@closed`. Parser and published JSON Schema in one.
        subject: What the event is about.
        key: What stays in order.
        example: Valid data.
        version: The newest that this code knows. A later version adds optional fields to `data` and changes nothing else, so data of
            any earlier version is data of this one.
    """

    name: str
    topic: str
    meaning: str
    data: type[Any]
    subject: Rule
    key: Rule
    example: Mapping[str, Any]
    version: int = 1

    @cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        return TypeAdapter(self.data)

    @cached_property
    def validator(self) -> "SchemaValidator":
        """Raises pydantic's ValidationError for data that is not of this type."""
        found = self._adapter.validator
        if not isinstance(found, SchemaValidator):  # pydantic's plugins may wrap it
            raise TypeError(f"{self.name} has no plain validator: {type(found).__name__}")
        return found

    def json_schema(self) -> dict[str, Any]:
        """The schema of `data` as JSON Schema 2020-12; its `$id` is what CloudEvents `dataschema` says on the wire."""
        data = self._adapter.json_schema(schema_generator=_Untitled)
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": f"{SCHEMA}:{self.name}:{self.version}",
            "title": self.name,
            "description": self.meaning,
            "x-topic": self.topic,
            "x-subject": self.subject.says,
            "x-key": self.key.says,
            **{name: said for name, said in data.items() if name not in ("title", "description")},
            "examples": [dict(self.example)],
        }

    def belongs_on(self, topic: str) -> bool:
        return self.topic == topic or (self.topic == DEAD and topic.endswith(DEAD[1:]))


class EventTypes:
    """All types of events that a platform knows, by name."""

    def __init__(self, types: Iterable[EventType]) -> None:
        self._types: dict[str, EventType] = {}
        for each in types:
            if each.name in self._types:
                raise ValueError(f"{each.name} is the name of two types of events")
            self._types[each.name] = each

    def __iter__(self) -> Iterator[EventType]:
        return iter(self._types.values())

    def __contains__(self, name: object) -> bool:
        return name in self._types

    def named(self, name: str) -> EventType:
        """Raises UnknownName."""
        if name not in self._types:
            raise UnknownName.of("type of event", name, self._types)
        return self._types[name]

    def on(self, topic: str) -> tuple[EventType, ...]:
        """The types that belong on a topic."""
        return tuple(each for each in self if each.belongs_on(topic))

    def checked(self, message: Message, topic: str, now: datetime | None = None) -> Message:
        """The same message, which is what its type says and belongs on its topic. Takes some microseconds.

        Args:
            message: As it was read.
            topic: Where, without the prefix of a broker.
            now: Wall time; None lets events of the future pass.

        Raises:
            EventRefused: It is not, with the field and the reason.
        """
        known = self._types.get(message.type)
        if known is None:
            raise _unknown_type(message, topic, self.on(topic))
        if known.topic != topic and not known.belongs_on(topic):
            why = f"a {known.name} belongs on '{known.topic}', not on '{topic}'"
            raise EventRefused.of(message.type, message.id, "wrong_topic", "type", why, "publish it where it belongs.")
        if not 1 <= message.version <= known.version:
            raise _unknown_version(message, known)
        data = message.data
        try:
            known.validator.validate_python(data if type(data) is dict else dict(data))
        except ValidationError as error:
            raise _malformed(message, error) from error
        for name, found, rule in (("subject", message.subject, known.subject), ("partitionkey", message.key, known.key)):
            if found != rule.of(message):
                raise _wrong_key(message, name, found, rule)
        if now is not None and message.at > now + FUTURE_TOLERANCE:
            raise _from_the_future(message, now)
        return message


def _unknown_type(message: Message, topic: str, known: Iterable[EventType]) -> EventRefused:
    names = [each.name for each in known]
    near = difflib.get_close_matches(message.type[:LONGEST], names, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"'{topic}' takes {', '.join(names) or 'nothing'}; see `lab events schemas`."
    return EventRefused.of(message.type, message.id, "unknown_type", "type", f"there is no type '{message.type[:LONGEST]}'", hint)


def _unknown_version(message: Message, known: EventType) -> EventRefused:
    why = f"version {message.version} of {known.name} is not known, the newest is {known.version}"
    hint = "update what reads it, then `lab events dead --retry`; readers come before writers."
    return EventRefused.of(message.type, message.id, "unknown_version", "dataschema", why, hint)


def _malformed(message: Message, error: ValidationError) -> EventRefused:
    first = error.errors(include_url=False, include_context=False)[0]
    path = ".".join(["data", *(str(part) for part in first["loc"])])[:LONGEST]
    found = "" if first["type"] == "missing" else f" (found {_short(first['input'])})"
    why = f"{path}: {first['msg'][:1].lower()}{first['msg'][1:]}{found}"
    hint = f"`lab events schemas {message.type}` shows what it has to be; repair its sender."
    return EventRefused.of(message.type, message.id, "malformed_data", path, why, hint)


def _wrong_key(message: Message, name: str, found: str, rule: Rule) -> EventRefused:
    wanted = rule.of(message)
    should = f"'{wanted}', {rule.says}" if wanted else rule.says
    what = "key" if name == "partitionkey" else name
    why = f"its {what} is {_short(found)} and has to be {should}"
    hint = f"have its sender set `{name}`: events of one key stay in order, others do not."
    return EventRefused.of(message.type, message.id, f"wrong_{what}", name, why, hint)


def _from_the_future(message: Message, now: datetime) -> EventRefused:
    why = f"its time is {iso(message.at)}, and now it is {iso(now.replace(microsecond=0))}"
    hint = "set the clock of its sender right; such an event would let time run ahead for all others."
    return EventRefused.of(message.type, message.id, "from_the_future", "time", why, hint)


_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 60


def _short(value: object) -> str:
    """What was found, however large or deep it is."""
    return _REPR.repr(value)
