"""Flights in the online table: which rows there are, and how facts become rows; `from_rows.py` reads them. Standard library only.

A row is a header and components in order of event time. The header is the format's name and the second behind which the row has all
facts. All numbers are little-endian. What is in another format, or was cut, counts as no row.
"""

import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

from mlops_lab.events import Message
from mlops_lab.features.on_demand import AskedField
from mlops_lab.features.rows import RowRef, RowView
from mlops_lab.flights.facts import ARRIVED, DEPARTED, LISTED, OBSERVED
from mlops_lab.flights.online import Listing, Recent, later
from mlops_lab.flights.transform import (
    AIRCRAFT_MAX_AGE_S,
    ARRIVALS_WINDOW_S,
    DEPARTURES_WINDOW_S,
    WEATHER,
    WEATHER_MAX_AGE_S,
)

BEHIND_S = 3600
"""How far the moment of a question may lie behind the newest fact of a row, and the row still holds all that it needs."""

ORIGIN = RowView("origin_departures", ("origin",), "departures at an airport: second, delay in minutes", DEPARTURES_WINDOW_S)
CARRIER = RowView("carrier_departures", ("origin", "carrier"), "the same, of one carrier", DEPARTURES_WINDOW_S)
DESTINATION = RowView("destination_arrivals", ("destination",), "arrivals into an airport: second, delay in minutes", ARRIVALS_WINDOW_S)
AIRCRAFT = RowView(
    "aircraft_delays", ("tail_number",), "departures and arrivals of an aircraft: second, delay in minutes", AIRCRAFT_MAX_AGE_S
)
OBSERVATION = RowView(
    "airport_weather",
    ("origin",),
    "hourly weather: second, then the values of `transform.WEATHER`, NaN for unknown",
    WEATHER_MAX_AGE_S,
)
REGISTER = RowView("aircraft_register", ("tail_number",), "an aircraft: second of listing, seats, year built, NaN for unknown", None)
VIEWS = (ORIGIN, CARRIER, DESTINATION, AIRCRAFT, OBSERVATION, REGISTER)

ASKED = (AskedField("scheduled_departure", moment=True), AskedField("distance_miles"))
"""What features are computed from beside the rows."""

_SPAN_S = {view.name: view.window_s + BEHIND_S for view in VIEWS if view.window_s is not None}
FORMAT = b"row1"
HEADER = struct.Struct("<4sI")
DELAY_FACT = struct.Struct("<Ii")
_LAST_S = 2**32 - 1
WEATHER_FACT = struct.Struct(f"<I{len(WEATHER)}d")
REGISTER_FACT = struct.Struct("<I2d")


class FlightRows:
    """Implements `RowState`: facts in, rows out."""

    def __init__(self) -> None:
        self._delays: dict[RowRef, Recent] = {}
        self._weather: dict[RowRef, Recent] = {}
        self._register: dict[RowRef, Listing] = {}
        self._changed: set[RowRef] = set()
        self.newest_s = 0

    def apply(self, messages: Iterable[Message]) -> None:
        for message in messages:
            data, at = message.data, _second(message)
            if message.type == DEPARTED:
                fact = (at, 0, int(data["delay_min"]), str(data["flight_id"]))
                places = [RowRef(ORIGIN.name, (message.subject,)), RowRef(CARRIER.name, (message.subject, data["carrier"]))]
                self._add(self._delays, _with_aircraft(places, data["tail_number"]), fact)
            elif message.type == ARRIVED:
                fact = (at, 1, int(data["delay_min"]), str(data["flight_id"]))
                self._add(self._delays, _with_aircraft([RowRef(DESTINATION.name, (message.subject,))], data["tail_number"]), fact)
            elif message.type == OBSERVED:
                values = tuple(data[name] for name in WEATHER)
                self._add(self._weather, [RowRef(OBSERVATION.name, (message.subject,))], (at, 0, 0, values))
            elif message.type == LISTED:
                ref, listed = RowRef(REGISTER.name, (message.subject,)), (at, data["seats"], data["built"])
                if later(listed, self._register.get(ref)):
                    self._register[ref] = listed
                    self._changed.add(ref)
                continue
            else:
                continue
            self.newest_s = max(self.newest_s, at)

    def changed(self) -> Mapping[RowRef, bytes]:
        found = {ref: self._packed(ref) for ref in self._changed}
        self._changed.clear()
        return found

    def rows(self) -> Mapping[RowRef, bytes]:
        return {ref: self._packed(ref) for ref in self.refs()}

    def refs(self) -> Iterable[RowRef]:
        return chain(self._delays, self._weather, self._register)

    def _add(self, lists: "dict[RowRef, Recent]", refs: Sequence[RowRef], fact: tuple[int, int, int, object]) -> None:
        for ref in refs:
            recent = lists.get(ref)
            if recent is None:
                recent = lists[ref] = Recent()
            if recent.add(fact):
                self._changed.add(ref)

    def _packed(self, ref: RowRef) -> bytes:
        if ref.view == REGISTER.name:
            at, seats, built = self._register[ref]
            return HEADER.pack(FORMAT, 0) + REGISTER_FACT.pack(at, _nan(seats), _nan(built))
        recent = (self._weather if ref.view == OBSERVATION.name else self._delays)[ref]
        since, facts = recent.last(_SPAN_S[ref.view])
        if ref.view == OBSERVATION.name:
            return HEADER.pack(FORMAT, since) + b"".join(WEATHER_FACT.pack(at, *map(_nan, values)) for at, _, _, values in facts)
        return HEADER.pack(FORMAT, since) + b"".join(DELAY_FACT.pack(at, delay) for at, _, delay, _ in facts)


def _second(message: Message) -> int:
    """Of the fact, as a row writes it. Raises ValueError where it cannot: before 1970, or after 2106."""
    at = int(message.at.timestamp())
    if not 0 <= at <= _LAST_S:
        raise ValueError(f"its time, {message.at.isoformat()}, has no place in a row")
    return at


def _with_aircraft(places: list[RowRef], tail: str | None) -> list[RowRef]:
    return [*places, RowRef(AIRCRAFT.name, (tail,))] if tail else places


def _nan(value: float | None) -> float:
    return math.nan if value is None else value
