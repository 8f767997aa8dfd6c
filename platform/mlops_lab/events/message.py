"""One event in the CloudEvents 1.0 envelope. It carries ids and facts, never objects."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from mlops_lab.clock import from_iso, iso

SOURCE = "mlops-lab"


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

    def to_cloudevent(self) -> dict[str, Any]:
        """The structured-mode JSON object, `specversion` 1.0."""
        traced = {"traceparent": self.traceparent} if self.traceparent else {}
        return {
            "specversion": "1.0",
            "id": self.id,
            "source": self.source,
            "type": self.type,
            "time": iso(self.at),
            "subject": self.subject,
            "datacontenttype": "application/json",
            **traced,
            "data": dict(self.data),
        }

    @classmethod
    def from_cloudevent(cls, event: Mapping[str, Any]) -> "Message":
        """Read a structured-mode object back. Raises KeyError or ValueError where it is not one."""
        return cls(
            type=event["type"],
            at=from_iso(event["time"]),
            subject=event["subject"],
            data=event["data"],
            id=event["id"],
            source=event["source"],
            traceparent=event.get("traceparent", ""),
        )
