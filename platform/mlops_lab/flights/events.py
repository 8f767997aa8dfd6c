"""What the events of this use case have to be. Their names are in `facts.py`, who makes them is `messages.py`."""

from typing import Annotated, Any

from pydantic import Field
from typing_extensions import TypedDict

from mlops_lab.events import OBSERVATIONS, REFERENCES, SCHEDULE
from mlops_lab.events.schema import EventType, Rule, closed, field, matching
from mlops_lab.flights.facts import ARRIVED, DEPARTED, LISTED, OBSERVED, SCHEDULED
from mlops_lab.serving.fields import Moment, text

_FlightId = Annotated[str, text("^[ -~]{1,64}$", "The flight, as questions about it call it.", "20130701T1330Z-UA1545-EWR")]
_Carrier = Annotated[str, text("^[A-Z0-9]{2}$", "IATA code of the airline.", "UA")]
_Airport = Annotated[str, text("^[A-Z0-9]{3}$", "IATA code of an airport.", "EWR")]
_Tail = Annotated[str | None, Field(description="The aircraft; null where it is not known.", min_length=1, max_length=10)]
_Delay = Annotated[int, Field(ge=-1440, le=4320, description="Minutes behind schedule; negative when early.")]
_Value = Annotated[float | None, Field(description="Null where it was not measured.")]

_AIRCRAFT = Rule("the tail number, else the flight id", lambda message: message.data["tail_number"] or message.data["flight_id"])


@closed
class Departure(TypedDict):
    """A flight left the gate."""

    flight_id: _FlightId
    carrier: _Carrier
    origin: _Airport
    tail_number: _Tail
    delay_min: _Delay


@closed
class Arrival(TypedDict):
    """A flight reached its destination."""

    flight_id: _FlightId
    destination: _Airport
    tail_number: _Tail
    delay_min: _Delay


@closed
class Weather(TypedDict):
    """The hourly observation, in the units that the names say."""

    temperature_f: _Value
    dew_point_f: _Value
    humidity_pct: _Value
    wind_direction_deg: _Value
    wind_speed_mph: _Value
    wind_gust_mph: _Value
    precipitation_in: _Value
    pressure_mb: _Value
    visibility_miles: _Value


@closed
class Aircraft(TypedDict):
    """One line of the register."""

    seats: Annotated[float | None, Field(ge=0, description="Null where it is not known.")]
    built: Annotated[float | None, Field(ge=1900, le=2100, description="Year; null where it is not known.")]


@closed
class Plan(TypedDict):
    """A flight as it is planned: what a question about it needs."""

    flight_id: _FlightId
    scheduled_departure: Moment
    carrier: _Carrier
    tail_number: _Tail
    origin: _Airport
    destination: _Airport
    distance_miles: Annotated[float | None, Field(gt=0, description="Great-circle distance; null where it is not known.")]


_DEPARTURE: dict[str, Any] = {
    "flight_id": "20130701T1330Z-UA1545-EWR",
    "carrier": "UA",
    "origin": "EWR",
    "tail_number": "N14228",
    "delay_min": 2,
}
_ARRIVAL: dict[str, Any] = {
    "flight_id": "20130701T1330Z-UA1545-EWR",
    "destination": "IAH",
    "tail_number": "N14228",
    "delay_min": 11,
}
_OBSERVATION: dict[str, Any] = {
    "temperature_f": 75.02,
    "dew_point_f": 66.02,
    "humidity_pct": 73.57,
    "wind_direction_deg": 210.0,
    "wind_speed_mph": 9.2,
    "wind_gust_mph": None,
    "precipitation_in": 0.0,
    "pressure_mb": 1014.1,
    "visibility_miles": 10.0,
}
_PLAN: dict[str, Any] = {
    "flight_id": "20130701T1330Z-UA1545-EWR",
    "scheduled_departure": "2013-07-01T13:30:00Z",
    "carrier": "UA",
    "tail_number": "N14228",
    "origin": "EWR",
    "destination": "IAH",
    "distance_miles": 1400.0,
}

EVENT_TYPES = (
    EventType(DEPARTED, OBSERVATIONS, "A flight left the gate.", Departure, field("origin", "the origin"), _AIRCRAFT, _DEPARTURE),
    EventType(
        ARRIVED, OBSERVATIONS, "A flight reached its destination.", Arrival, field("destination", "the destination"), _AIRCRAFT, _ARRIVAL
    ),
    EventType(
        OBSERVED,
        OBSERVATIONS,
        "The hourly weather of one airport.",
        Weather,
        matching("[A-Z0-9]{3}", "the airport, by its IATA code"),
        matching("[A-Z0-9]{3}", "the airport"),
        _OBSERVATION,
    ),
    EventType(
        LISTED,
        REFERENCES,
        "An aircraft as the register has it; the newest counts.",
        Aircraft,
        matching("[ -~]{1,10}", "the tail number"),
        matching("[ -~]{1,10}", "the tail number"),
        {"seats": 149.0, "built": 1999.0},
    ),
    EventType(SCHEDULED, SCHEDULE, "A flight is planned.", Plan, field("flight_id", "the flight id"), _AIRCRAFT, _PLAN),
)
