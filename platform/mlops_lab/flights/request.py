"""A question about a flight, and what is later said to have happened."""

from collections.abc import Mapping
from typing import Annotated, Any, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from mlops_lab.features import Ask
from mlops_lab.flights.transform import ASKED_BEFORE_DEPARTURE
from mlops_lab.serving.fields import Moment, Whole, closed, text

MODEL = "flight-delay"
LATE_AFTER_MIN = 15
"""A flight is late if it arrives more than so many minutes behind schedule."""

_AIRPORT = "^[A-Z0-9]{3}$"


@closed(
    {
        "flight_id": "20130701T1330Z-UA1545-EWR",
        "scheduled_departure": "2013-07-01T13:30:00Z",
        "carrier": "UA",
        "tail_number": "N14228",
        "origin": "EWR",
        "destination": "IAH",
        "distance_miles": 1400,
    }
)
class Flight(TypedDict):
    """One flight. Carriers, airports and aircraft that the model has not seen are answered: it treats them as unknown."""

    flight_id: Annotated[str, text("^[ -~]{1,64}$", "Yours; kept in the prediction log, comes back nowhere.", "20130701T1330Z-UA1545-EWR")]
    scheduled_departure: Annotated[Moment, Field(description="Facts up to one hour before it are used.")]
    carrier: Annotated[str, text("^[A-Z0-9]{2}$", "IATA code.", "UA")]
    tail_number: NotRequired[Annotated[str, text("^[ -~]{1,10}$", "The aircraft; null where it is not assigned yet.", "N14228")] | None]
    origin: Annotated[str, text(_AIRPORT, "IATA code.", "EWR")]
    destination: Annotated[str, text(_AIRPORT, "IATA code.", "IAH")]
    distance_miles: NotRequired[Annotated[float, Field(ge=10, le=12_000, description="Great-circle distance.")] | None]


@closed({"arrival_delay_min": 27})
class Outcome(TypedDict):
    """When it arrived."""

    arrival_delay_min: Annotated[int, Whole(-1440, 4320, "Behind schedule; negative when early.")]


def ask(item: Flight) -> Ask:
    """The question that a valid item asks."""
    return Ask(item["flight_id"], item["scheduled_departure"] - ASKED_BEFORE_DEPARTURE, item)


def is_late(said: Mapping[str, Any]) -> bool:
    """The label of an outcome."""
    return bool(said["arrival_delay_min"] > LATE_AFTER_MIN)
