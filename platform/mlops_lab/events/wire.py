"""An event as bytes: the structured mode of CloudEvents' Kafka binding, one JSON object. No broker, no clock."""

import json
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import orjson

from mlops_lab.errors import MessageUnsendable
from mlops_lab.events.message import Message
from mlops_lab.events.topics import Topic

CONTENT_TYPE = b"application/cloudevents+json; charset=UTF-8"
_HEADERS: "Headers" = [("content-type", CONTENT_TYPE)]
_HEADER_BYTES = 256  # more than our headers and the record's own fields take
_PLAIN_JSON = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS

Headers = list[tuple[str, str | bytes | None]]
AnyHeaders = Headers | dict[str, str | bytes | None] | None


class Record(NamedTuple):
    """What is sent: messages of one key share a partition."""

    key: bytes
    value: bytes
    headers: Headers


def encode(topic: Topic, messages: Iterable[Message]) -> Sequence[Record]:
    """The records of messages, in their order.

    Raises:
        MessageUnsendable: One is larger than the topic allows, has no key, or holds what is no JSON. It is refused here, where its id is
            known, and with it all that were to be sent together.
    """
    return [_record(topic, message) for message in messages]


def decode(key: bytes | None, value: bytes | None, headers: Callable[[], AnyHeaders], limit: int) -> Message:
    """Read a record back. Raises ValueError with the reason for what is none of ours, or larger than `limit` bytes.

    Args:
        key: The record's own: it decided about the partition, so a wrong one may have let others of its aircraft overtake it.
        value: The record's bytes; None is what a deletion in a compacted topic looks like.
        headers: Asked only where the bytes cannot be read.
        limit: See Topic.max_event_bytes.
    """
    if value is None:
        raise ValueError("it is empty")
    if len(value) > limit:
        raise ValueError(f"it is {len(value)} bytes large, at most {limit} are allowed")
    try:
        event = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise ValueError(_mode(headers) or f"it is no JSON: {error}") from error
    if not isinstance(event, dict):
        raise ValueError(_mode(headers) or "it is no JSON object")
    if "specversion" not in event and (why := _mode(headers)):
        raise ValueError(why)
    message = Message.from_cloudevent(event)
    if key != message.key.encode():
        raise ValueError(f"its record key is {_shown(key)}, and has to be its partition key or else its subject, '{message.key}'")
    return message


def _record(topic: Topic, message: Message) -> Record:
    if not message.key:
        raise MessageUnsendable.because(topic.name, message.id, "it has neither a subject nor a partition key")
    event = message.to_cloudevent()
    try:
        value = orjson.dumps(event, option=_PLAIN_JSON)
        if b"null" in value:  # as which orjson writes NaN and infinity, without a word
            json.dumps(event, allow_nan=False)
        key = message.key.encode()
    except (TypeError, ValueError) as error:
        raise MessageUnsendable.because(topic.name, message.id, str(error)) from error
    size = len(key) + len(value) + _HEADER_BYTES
    if size > topic.max_event_bytes:
        raise MessageUnsendable.too_large(topic.name, message.id, size, topic.max_event_bytes)
    return Record(key, value, [*_HEADERS, ("traceparent", message.traceparent.encode())] if message.traceparent else _HEADERS)


def _shown(key: bytes | None) -> str:
    return "missing" if key is None else f"'{key[:100].decode(errors='replace')}'"


def _mode(headers: Callable[[], AnyHeaders]) -> str:
    """Why it looks as it does, where its headers say it."""
    if any(name.lower().startswith("ce_") for name in dict(headers() or ())):
        return "it is in the binary mode of CloudEvents, and the structured mode is what is read here"
    return ""
