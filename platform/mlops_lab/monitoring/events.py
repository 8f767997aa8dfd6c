"""What is told of a canary's trial."""

from typing import Annotated, Any

from pydantic import Field
from typing_extensions import TypedDict

from mlops_lab.events import CONTROL
from mlops_lab.events.schema import EventType, closed, subject

_Version = Annotated[int, Field(ge=1, description="Number of the version on trial.")]
_Assignment = Annotated[int, Field(ge=1, description="Line of the ledger that gave it its share.")]


@closed
class Aborted(TypedDict):
    """It lost its share."""

    version: _Version
    assignment: _Assignment
    cause: Annotated[str, Field(description="errors, latency, scores, no_data, inconclusive; more may come.")]


@closed
class Passed(TypedDict):
    """It may be promoted."""

    version: _Version
    assignment: _Assignment


_MODEL = subject("the model")
_PASSED: dict[str, Any] = {"version": 2, "assignment": 4}

EVENT_TYPES = (
    EventType("CanaryAborted", CONTROL, "A canary lost its share.", Aborted, _MODEL, _MODEL, _PASSED | {"cause": "errors"}),
    EventType("CanaryPassed", CONTROL, "A canary passed its trial.", Passed, _MODEL, _MODEL, _PASSED),
)
