"""One event in the CloudEvents 1.0 envelope. It carries ids and facts, never objects."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from mlops_lab.clock import from_iso, iso

SOURCE = "mlops-lab"
SCHEMA = "urn:mlops-lab:event"
"""What `dataschema` begins with; the type and the version follow."""

MAX_DEPTH = 32
"""How deep data may be nested: what a parser reads, a writer must not stumble over when it becomes a dead letter."""


@dataclass(frozen=True, slots=True)
class Message:
    """What happened (a fact, past tense) or what is wanted (an order, imperative).

    Attributes:
        type: CloudEvents `type`, such as `FlightDeparted` or `RetrainModel`.
        at: CloudEvents `time`: event time, aware, UTC.
        subject: CloudEvents `subject`: an airport, a tail number, a model.
        data: JSON object. Numbers, texts, ids; no floats that are NaN or infinite.
        id: Unique per event; publishing the same id twice has the effect of once.
        traceparent: The request that led to it, as the distributed tracing extension of CloudEvents writes it (W3C); empty without.
        partition_key: What has to stay in order, as the partitioning extension of CloudEvents writes it; empty stands for the subject.
        version: Of the schema of `data`, 1, 2, 3, ...; a later version adds fields that may be missing, it takes none away.
    """

    type: str
    at: datetime
    subject: str
    data: Mapping[str, Any]
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    source: str = SOURCE
    traceparent: str = ""
    partition_key: str = ""
    version: int = 1

    @property
    def key(self) -> str:
        """Messages of one key stay in order, on whatever bus."""
        return self.partition_key or self.subject

    @property
    def dataschema(self) -> str:
        """CloudEvents `dataschema`: what `data` looks like."""
        return f"{SCHEMA}:{self.type}:{self.version}"

    def to_cloudevent(self) -> dict[str, Any]:
        """The structured-mode JSON object, `specversion` 1.0."""
        event: dict[str, Any] = {
            "specversion": "1.0",
            "id": self.id,
            "source": self.source,
            "type": self.type,
            "time": iso(self.at),
            "subject": self.subject,
            "datacontenttype": "application/json",
            "dataschema": self.dataschema,
        }
        if self.traceparent:
            event["traceparent"] = self.traceparent
        if self.partition_key:
            event["partitionkey"] = self.partition_key
        event["data"] = dict(self.data)
        return event

    @classmethod
    def from_cloudevent(cls, event: Mapping[str, Any]) -> "Message":
        """Read a structured-mode object back; without `dataschema` it is of version 1. Raises ValueError where it is not one of ours."""
        if event.get("specversion") != "1.0":
            raise ValueError(f"its specversion is {event.get('specversion')!r}, not '1.0'")
        kind, data = _text(event, "type"), event.get("data")
        return cls(
            type=kind,
            at=from_iso(_text(event, "time")),
            subject=_text(event, "subject"),
            data=checked_data(data),
            id=_text(event, "id"),
            source=_text(event, "source"),
            traceparent=_text(event, "traceparent") if "traceparent" in event else "",
            partition_key=_text(event, "partitionkey") if "partitionkey" in event else "",
            version=_version(event["dataschema"], kind) if "dataschema" in event else 1,
        )


def checked_data(data: object) -> dict[str, Any]:
    """The same data. Raises ValueError where it is no JSON object, or nested too deep."""
    if not isinstance(data, dict):
        raise ValueError("its data is no JSON object")
    inner: list[Any] = [each for each in data.values() if isinstance(each, dict | list)]
    for _ in range(MAX_DEPTH):
        if not inner:
            return data
        inner = [
            each for outer in inner for each in (outer.values() if isinstance(outer, dict) else outer) if isinstance(each, dict | list)
        ]
    raise ValueError(f"its data is nested more than {MAX_DEPTH} deep")


def _text(event: Mapping[str, Any], name: str) -> str:
    value = event.get(name)
    if not isinstance(value, str) or not value:
        raise ValueError(f"its {name} is {value!r}, not a text" if name in event else f"it has no {name}")
    return value


def _version(schema: object, kind: str) -> int:
    begin = f"{SCHEMA}:{kind}:"
    number = schema[len(begin) :] if isinstance(schema, str) and schema.startswith(begin) else ""
    if not (number.isascii() and number.isdigit() and number[0] != "0"):
        raise ValueError(f"its dataschema is {schema!r}, not {begin}1 or a later version")
    return int(number)
