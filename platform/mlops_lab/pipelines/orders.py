"""The orders that can be given, as values; each travels as one control message and has the effect of once, by its id."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, ClassVar

from mlops_lab.clock import iso
from mlops_lab.errors import UsageError
from mlops_lab.events import Message
from mlops_lab.telemetry import current_traceparent


@dataclass(frozen=True, slots=True)
class Order:
    """What all orders have.

    Attributes:
        id: Unique; the same id again is the same order.
        at: Event time at which it is given.
        by: Identity that gives it.
    """

    TYPE: ClassVar[str] = ""

    id: str
    at: datetime
    by: str

    def to_message(self, subject: str) -> Message:
        """The order as a control message; its id is the message's, and it belongs to the trace it is given in."""
        data: dict[str, Any] = asdict(self)
        del data["id"], data["at"]
        return Message(self.TYPE, self.at, subject, data, id=self.id, traceparent=current_traceparent())

    @classmethod
    def from_message(cls, message: Message) -> "Order":
        try:
            return cls(id=message.id, at=message.at, **message.data)
        except TypeError as error:
            raise UsageError(
                f"Order {message.id} is no {cls.TYPE}: {error}.", "give the order again, with the fields of its type."
            ) from error


@dataclass(frozen=True, slots=True)
class IngestBatch(Order):
    """Take in the batch that lies in a folder; `window` is its ISO week."""

    TYPE: ClassVar[str] = "IngestBatch"

    folder: str
    window: str


@dataclass(frozen=True, slots=True)
class TrainModel(Order):
    """Train a challenger on what is known at `at`, except the newest weeks, which are kept for the judge.

    Attributes:
        origin: `first`, `retrain`, `drill`, or a person's words.
        flip_share: Share of training labels to turn round, 0 to 1: a drill that makes a bad model on purpose.
    """

    TYPE: ClassVar[str] = "TrainModel"

    origin: str
    flip_share: float = 0.0


@dataclass(frozen=True, slots=True)
class PromoteModel(Order):
    """Give an approved version the traffic."""

    TYPE: ClassVar[str] = "PromoteModel"

    version: int


def order_id(kind: str, *parts: object) -> str:
    """A readable id that two runs agree on: `train-retrain-2013-W29`."""
    return "-".join([kind, *(iso(p).replace(":", "") if isinstance(p, datetime) else str(p) for p in parts)])
