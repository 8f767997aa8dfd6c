"""A question about a flight, and what is later said to have happened. Standard library only."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from mlops_lab.features import Ask
from mlops_lab.flights.transform import moment_of
from mlops_lab.serving.contract import FieldWrong

MODEL = "flight-delay"
LATE_AFTER_MIN = 15
"""A flight is late if it arrives more than so many minutes behind schedule."""

FIELDS = ("flight_id", "scheduled_departure", "carrier", "tail_number", "origin", "destination", "distance_miles")
_YEARS = (2000, 2100)


def ask(item: Mapping[str, Any]) -> Ask:
    """Read one flight.

    Fields: flight_id (1 to 64 characters), scheduled_departure (ISO 8601 with offset), carrier (2 capitals or digits), origin and
    destination (3 capitals), tail_number (up to 10 characters, or null), distance_miles (10 to 12,000, or null).
    Categories that the model has not seen are answered: it treats them as unknown.

    Raises:
        FieldWrong: Names the first field that is missing, strange or out of range.
    """
    if len(item) > len(FIELDS) or not item.keys() <= _KNOWN:
        stranger = next(iter(sorted(set(item) - _KNOWN)))
        raise FieldWrong(str(stranger)[:64], f"is not a field of a flight; known are {', '.join(FIELDS)}")
    scheduled = _moment(item.get("scheduled_departure"), "scheduled_departure")
    flight_id = _text(item.get("flight_id"), "flight_id", 1, 64)
    fields = {
        "scheduled_departure": scheduled,
        "carrier": _code(item.get("carrier"), "carrier", 2),
        "origin": _code(item.get("origin"), "origin", 3),
        "destination": _code(item.get("destination"), "destination", 3),
        "tail_number": _optional_text(item.get("tail_number"), "tail_number", 10),
        "distance_miles": _distance(item.get("distance_miles")),
    }
    return Ask(entity=flight_id, moment=moment_of(scheduled), fields=fields)


def outcome(said: Mapping[str, Any]) -> Mapping[str, Any]:
    """Check what happened: `arrival_delay_min`, whole minutes from -1,440 to 4,320, negative when early. Raises FieldWrong."""
    strangers = sorted(set(said) - {"arrival_delay_min"})
    if strangers:
        raise FieldWrong(str(strangers[0])[:64], "is not a field of an outcome; known is arrival_delay_min")
    delay = said.get("arrival_delay_min")
    if type(delay) is not int or not -1440 <= delay <= 4320:
        raise FieldWrong("arrival_delay_min", "must be a whole number of minutes from -1440 to 4320")
    return {"arrival_delay_min": delay}


def is_late(said: Mapping[str, Any]) -> bool:
    """The label of an outcome."""
    return bool(said["arrival_delay_min"] > LATE_AFTER_MIN)


ITEM_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["flight_id", "scheduled_departure", "carrier", "origin", "destination"],
    "properties": {
        "flight_id": {"type": "string", "minLength": 1, "maxLength": 64, "description": "Yours; comes back in nothing but the log."},
        "scheduled_departure": {
            "type": "string",
            "format": "date-time",
            "description": "With an offset. Facts up to one hour before it are used.",
        },
        "carrier": {"type": "string", "minLength": 2, "maxLength": 2, "description": "IATA code; an unknown one is answered as unknown."},
        "tail_number": {"type": ["string", "null"], "maxLength": 10, "description": "The aircraft; null where it is not assigned yet."},
        "origin": {"type": "string", "minLength": 3, "maxLength": 3},
        "destination": {"type": "string", "minLength": 3, "maxLength": 3},
        "distance_miles": {"type": ["number", "null"], "minimum": 10, "maximum": 12000},
    },
    "example": {
        "flight_id": "UA1545",
        "scheduled_departure": "2013-07-01T13:30:00Z",
        "carrier": "UA",
        "tail_number": "N14228",
        "origin": "EWR",
        "destination": "IAH",
        "distance_miles": 1400,
    },
}
"""What `ask` takes, for the documentation page."""

OUTCOME_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["arrival_delay_min"],
    "properties": {"arrival_delay_min": {"type": "integer", "minimum": -1440, "maximum": 4320, "description": "Negative when early."}},
    "example": {"arrival_delay_min": 27},
}
"""What `outcome` takes, for the documentation page."""

_KNOWN = frozenset(FIELDS)


def _moment(value: Any, field: str) -> datetime:
    if type(value) is not str or not 16 <= len(value) <= 40:
        raise FieldWrong(field, "must be a date and time in ISO 8601 with an offset, such as 2013-07-01T13:30:00Z")
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        raise FieldWrong(field, "must be a date and time in ISO 8601 with an offset, such as 2013-07-01T13:30:00Z") from None
    if at.tzinfo is None:
        raise FieldWrong(field, "must carry an offset from UTC, such as the Z in 2013-07-01T13:30:00Z")
    if not _YEARS[0] <= at.year < _YEARS[1]:
        raise FieldWrong(field, f"must lie in the years {_YEARS[0]} to {_YEARS[1] - 1}")
    return at.astimezone(UTC)


def _code(value: Any, field: str, length: int) -> str:
    if type(value) is str and len(value) == length and value.isascii() and value.isalnum() and value == value.upper():
        return value
    raise FieldWrong(field, f"must be {length} capital letters or digits")


def _text(value: Any, field: str, shortest: int, longest: int) -> str:
    if type(value) is str and shortest <= len(value) <= longest and value.isprintable():
        return value
    raise FieldWrong(field, f"must be a text of {shortest} to {longest} characters")


def _optional_text(value: Any, field: str, longest: int) -> str | None:
    return None if value is None else _text(value, field, 1, longest)


def _distance(value: Any) -> float | None:
    if value is None:
        return None
    if type(value) in (int, float) and 10 <= value <= 12_000:
        return float(value)
    raise FieldWrong("distance_miles", "must be a number of miles from 10 to 12000, or null")
