"""What is told of answers, and of what became of them."""

from typing import Annotated, Any

from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict

from mlops_lab.events import ANSWERS, FEEDBACK
from mlops_lab.events.schema import EventType, closed, field, subject
from mlops_lab.serving.fields import Moment, Name

_MODEL = subject("the model")


@closed
class Answered(TypedDict):
    """One request that was answered and is in the log."""

    predictions: Annotated[list[str], Field(min_length=1, description="Ids of the predictions, in the order of the items.")]
    model_version: Annotated[int, Field(ge=1, description="The version that answered.")]
    variant: Annotated[str, Field(description="champion or canary.")]
    purpose: Annotated[str, Field(description="live.")]
    request_id: Annotated[str, Field(description="Of the request.")]


ANSWERED = EventType(
    "PredictionsAnswered",
    ANSWERS,
    "A request was answered. Ids, never features.",
    Answered,
    _MODEL,
    field("request_id", "the request id"),
    {"predictions": ["0d9a6f"], "model_version": 1, "variant": "champion", "purpose": "live", "request_id": "r-1"},
)


def outcome_reported(outcome: type[Any]) -> EventType:
    """The event that says what became of one prediction.

    Args:
        outcome: What happened, as the use case describes it: a TypedDict under `fields.closed`.
    """
    fields = {
        "prediction_id": Annotated[Name, Field(description="As answered; an unknown one waits for its prediction.")],
        "event_id": Annotated[Name, Field(description="Unique per outcome; the same id again has the effect of once.")],
        "revision": Annotated[int, Field(ge=0, le=2**53, description="Grows when the same outcome is corrected.")],
        "outcome": outcome,
        "at": Annotated[Moment, Field(description="Since when this is known; event time.")],
    }
    make_type: Any = TypedDict  # the type checker takes literal fields only
    example = TypeAdapter(outcome).json_schema()["examples"][0]
    return EventType(
        "OutcomeReported",
        FEEDBACK,
        "What became of one prediction, hours or days after the answer.",
        closed(make_type("Reported", fields)),
        _MODEL,
        field("prediction_id", "the prediction id"),
        {"prediction_id": "0d9a6f", "event_id": "landed-1", "revision": 0, "outcome": example, "at": "2013-07-01T19:15:00Z"},
    )
