"""What is told of a batch at the gate."""

from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from mlops_lab.events import CONTROL
from mlops_lab.events.schema import EventType, closed, subject


@closed
class Accepted(TypedDict):
    """The batch is in the tables."""

    snapshot: Annotated[str, Field(description="Id of the snapshot.")]
    rows: Annotated[dict[str, Annotated[int, Field(ge=0)]], Field(description="Rows by table.")]


@closed
class Refused(TypedDict):
    """The batch is in quarantine."""

    reasons: Annotated[list[str], Field(description="The expectations that failed.")]


_BATCH = subject("the batch")

EVENT_TYPES = (
    EventType(
        "SnapshotAccepted",
        CONTROL,
        "A batch passed the gate.",
        Accepted,
        _BATCH,
        _BATCH,
        {"snapshot": "2013-W06-1f0c2a", "rows": {"flights": 6100, "weather": 504}},
    ),
    EventType("SnapshotRefused", CONTROL, "A gate refused a batch.", Refused, _BATCH, _BATCH, {"reasons": ["every flight is there once"]}),
)
