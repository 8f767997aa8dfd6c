"""Flights and weather as events: what an airline's systems would publish, when it happens."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pandas as pd

from mlops_lab.clock import iso
from mlops_lab.events import Message
from mlops_lab.flights.facts import ARRIVED, DEPARTED, LISTED, OBSERVED, SCHEDULED
from mlops_lab.flights.transform import WEATHER


def scheduled(flight: Any, at: datetime) -> Message:
    """A flight as it is planned, told at a moment."""
    tail = _text(flight.tail_number)
    data = {
        "flight_id": flight.flight_id,
        "scheduled_departure": iso(_at(flight.scheduled_departure)),
        "carrier": flight.carrier,
        "tail_number": tail,
        "origin": flight.origin,
        "destination": flight.destination,
        "distance_miles": _number(flight.distance_miles),
    }
    return Message(SCHEDULED, at, flight.flight_id, data, id=f"scheduled-{flight.flight_id}", partition_key=tail or flight.flight_id)


def departed(flight: Any) -> Message:
    """A flight left the gate; keyed by its aircraft, so that what happens to it stays in order."""
    tail = _text(flight.tail_number)
    data = {"flight_id": flight.flight_id, "carrier": flight.carrier, "origin": flight.origin, "tail_number": tail}
    data["delay_min"] = int(flight.departure_delay_min)
    key = tail or flight.flight_id
    return Message(DEPARTED, _at(flight.departed_at), flight.origin, data, id=f"departed-{flight.flight_id}", partition_key=key)


def arrived(flight: Any) -> Message:
    """A flight reached its destination; keyed by its aircraft too."""
    tail = _text(flight.tail_number)
    data = {"flight_id": flight.flight_id, "destination": flight.destination, "tail_number": tail}
    data["delay_min"] = int(flight.arrival_delay_min)
    key = tail or flight.flight_id
    return Message(ARRIVED, _at(flight.arrived_at), flight.destination, data, id=f"arrived-{flight.flight_id}", partition_key=key)


def observed(row: Any) -> Message:
    """The hourly weather of one airport."""
    at = _at(row.observed_at)
    data = {name: _number(getattr(row, name)) for name in WEATHER}
    return Message(OBSERVED, at, row.origin, data, id=f"observed-{row.origin}-{at:%Y%m%dT%H%MZ}")


def aircraft(table: pd.DataFrame, at: datetime) -> Iterator[Message]:
    """One fact per aircraft of the register, keyed by tail number."""
    for tail, seats, built in table[["tail_number", "seats", "built"]].itertuples(index=False):
        yield Message(LISTED, at, tail, {"seats": _number(seats), "built": _number(built)}, id=f"listed-{tail}")


def _at(moment: datetime) -> datetime:
    return moment.to_pydatetime() if isinstance(moment, pd.Timestamp) else moment


def _number(value: Any) -> float | None:
    return None if value != value else float(value)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
