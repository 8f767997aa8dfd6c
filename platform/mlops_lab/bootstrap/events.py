"""All types of events of one platform: each stage's own, the orders, and what the use case brings."""

from typing import Annotated, Any

from pydantic import Field
from typing_extensions import TypedDict

from mlops_lab.events import CONTROL, dead
from mlops_lab.events.schema import EventType, EventTypes, closed, subject
from mlops_lab.gates import events as gates
from mlops_lab.monitoring import events as monitoring
from mlops_lab.registry import events as registry
from mlops_lab.retraining import events as retraining
from mlops_lab.serving import events as serving
from mlops_lab.usecase import OnlineUseCase

_By = Annotated[str, Field(description="Identity that gives the order.")]


@closed
class Nothing(TypedDict):
    """The time of the event says it all."""


@closed
class Ingest(TypedDict):
    """Take a batch in."""

    by: _By
    folder: Annotated[str, Field(description="Where it lies.")]
    window: Annotated[str, Field(description="Its name: an ISO week.")]


@closed
class Train(TypedDict):
    """Train a challenger."""

    by: _By
    origin: Annotated[str, Field(description="first, retrain, drill, or a person's words.")]
    flip_share: Annotated[float, Field(ge=0, le=1, description="Share of training labels to turn round: a drill.")]


@closed
class Promote(TypedDict):
    """Give a version the traffic."""

    by: _By
    version: Annotated[int, Field(ge=1, description="An approved one.")]


_MODEL, _CLOCK = subject("the model"), subject("`clock`")
_TRAIN: dict[str, Any] = {"by": "trainer", "origin": "retrain", "flip_share": 0.0}

CONTROL_TYPES = (
    EventType("ClockReached", CONTROL, "Event time has come so far: windows may be closed.", Nothing, _CLOCK, _CLOCK, {}),
    EventType(
        "IngestBatch",
        CONTROL,
        "Order: take a batch through the gate.",
        Ingest,
        subject("the batch"),
        subject("the batch"),
        {"by": "operator", "folder": "inbox/2013-W06", "window": "2013-W06"},
    ),
    EventType(
        "TrainModel",
        CONTROL,
        "Order: train a challenger.",
        Train,
        _MODEL,
        _MODEL,
        {"by": "trainer", "origin": "retrain", "flip_share": 0.0},
    ),
    EventType("PromoteModel", CONTROL, "Order: give a version the traffic.", Promote, _MODEL, _MODEL, {"by": "operator", "version": 2}),
)


def event_types(use_case: OnlineUseCase) -> EventTypes:
    """Every type, in the order of the loop."""
    outcome: type[Any] = use_case.outcome
    return EventTypes(
        (
            *use_case.event_types,
            *CONTROL_TYPES,
            *gates.EVENT_TYPES,
            *registry.EVENT_TYPES,
            serving.ANSWERED,
            serving.outcome_reported(outcome),
            *monitoring.EVENT_TYPES,
            *retraining.EVENT_TYPES,
            *dead.TYPES,
        )
    )
