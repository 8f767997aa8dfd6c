"""What is told of a closed window: its decision, and the fact that others act on."""

from typing import Annotated, Any

from pydantic import Field
from typing_extensions import TypedDict

from mlops_lab.events import CONTROL
from mlops_lab.events.schema import EventType, closed, subject

_Window = Annotated[str, Field(pattern="^[0-9]{4}-W[0-9]{2}$", description="ISO week.")]


@closed
class Decided(TypedDict):
    """How a window ended."""

    window: _Window
    outcome: Annotated[str, Field(description="ok, watch, retrain, rollback, data_incident, not_enough_data; more may come.")]


@closed
class Found(TypedDict):
    """What has to be acted on."""

    window: _Window
    version: Annotated[int | None, Field(ge=1, description="The champion of the window; null where there was none.")]
    because: Annotated[str, Field(description="The reason as a sentence.")]


@closed
class Restated(TypedDict):
    """A later version of what a window's labels say."""

    window: _Window
    version: Annotated[int, Field(ge=2, description="Of the statement; 1 is what the decision rests on.")]
    model_version: Annotated[int, Field(ge=1, description="The version that was judged.")]
    labels: Annotated[int, Field(ge=0, description="Its answers that have a label by now.")]


_MODEL = subject("the model")
_FOUND: dict[str, Any] = {"window": "2013-W38", "version": 1, "because": "unexplained loss in 3 of 4 weeks"}

EVENT_TYPES = (
    EventType(
        "WindowDecided", CONTROL, "A closed window was decided.", Decided, _MODEL, _MODEL, {"window": "2013-W38", "outcome": "retrain"}
    ),
    EventType("SkillLost", CONTROL, "The champion lost skill: a challenger is wanted.", Found, _MODEL, _MODEL, _FOUND),
    EventType("ChampionDegraded", CONTROL, "A champion on probation is worse than the one before.", Found, _MODEL, _MODEL, _FOUND),
    EventType("DataIncidentFound", CONTROL, "A feed is broken: somebody has to look.", Found, _MODEL, _MODEL, _FOUND),
    EventType(
        "PerformanceRestated",
        CONTROL,
        "Labels of a decided window changed: its performance was measured again. The decision stands.",
        Restated,
        _MODEL,
        _MODEL,
        {"window": "2013-W38", "version": 2, "model_version": 1, "labels": 6301},
    ),
)
