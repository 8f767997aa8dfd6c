"""Flights in the online table: which rows there are, how facts become rows, and how features are read from them. Standard library only.

A row is a header, the second from which on it is complete, and components in order of event time. All numbers are little-endian.
"""

import math
import struct
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

from mlops_lab.events import Message
from mlops_lab.features import Ask, FeatureRow
from mlops_lab.features.rows import RowReader, RowRef, RowView
from mlops_lab.flights.facts import ARRIVED, DEPARTED, LISTED, OBSERVED
from mlops_lab.flights.online import Recent
from mlops_lab.flights.transform import (
    AIRCRAFT_MAX_AGE_S,
    ARRIVALS_WINDOW_S,
    DEPARTURES_WINDOW_S,
    WEATHER,
    WEATHER_MAX_AGE_S,
    Known,
    Mean,
    features_of,
)

BEHIND_S = 3600
"""How far the moment of a question may lie behind the newest fact of a row, and the row still holds all that it needs."""

ORIGIN = RowView("origin_departures", ("origin",), "departures at an airport: second, delay in minutes")
CARRIER = RowView("carrier_departures", ("origin", "carrier"), "the same, of one carrier")
DESTINATION = RowView("destination_arrivals", ("destination",), "arrivals into an airport: second, delay in minutes")
AIRCRAFT = RowView("aircraft_delays", ("tail_number",), "departures and arrivals of an aircraft: second, delay in minutes")
OBSERVATION = RowView("airport_weather", ("origin",), "hourly weather: second, then the values of `transform.WEATHER`, NaN for unknown")
REGISTER = RowView("aircraft_register", ("tail_number",), "an aircraft: second of listing, seats, year built, NaN for unknown")
VIEWS = (ORIGIN, CARRIER, DESTINATION, AIRCRAFT, OBSERVATION, REGISTER)

_SPAN_S = {
    ORIGIN.name: DEPARTURES_WINDOW_S + BEHIND_S,
    CARRIER.name: DEPARTURES_WINDOW_S + BEHIND_S,
    DESTINATION.name: ARRIVALS_WINDOW_S + BEHIND_S,
    AIRCRAFT.name: AIRCRAFT_MAX_AGE_S + BEHIND_S,
    OBSERVATION.name: WEATHER_MAX_AGE_S + BEHIND_S,
}
_HEADER = struct.Struct("<I")
_DELAY = struct.Struct("<Ii")
_WEATHER = struct.Struct(f"<I{len(WEATHER)}d")
_REGISTER = struct.Struct("<I2d")


class FlightRows:
    """Implements `RowState`: facts in, rows out."""

    def __init__(self) -> None:
        self._delays: dict[RowRef, Recent] = {}
        self._weather: dict[RowRef, Recent] = {}
        self._register: dict[RowRef, tuple[int, float | None, float | None]] = {}
        self._changed: set[RowRef] = set()
        self.newest_s = 0

    def apply(self, messages: Iterable[Message]) -> None:
        for message in messages:
            data, at = message.data, int(message.at.timestamp())
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
                if self._register.get(ref) != listed:
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
        return {ref: self._packed(ref) for ref in chain(self._delays, self._weather, self._register)}

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
            return _HEADER.pack(0) + _REGISTER.pack(at, _nan(seats), _nan(built))
        recent = (self._weather if ref.view == OBSERVATION.name else self._delays)[ref]
        since, facts = recent.last(_SPAN_S[ref.view])
        if ref.view == OBSERVATION.name:
            return _HEADER.pack(since) + b"".join(_WEATHER.pack(at, *map(_nan, values)) for at, _, _, values in facts)
        return _HEADER.pack(since) + b"".join(_DELAY.pack(at, delay) for at, _, delay, _ in facts)


class FlightsFromRows:
    """Implements `OnlineFeatures`, on the rows of a store."""

    def __init__(self, reader: RowReader) -> None:
        self._reader = reader

    def apply(self, messages: Iterable[Message]) -> None:
        """Facts reach the rows through the processor alone."""
        raise TypeError("rows are written by the stream processor")

    def read(self, ask: Ask) -> FeatureRow:
        return self.read_many((ask,))[0]

    def read_many(self, asks: Sequence[Ask]) -> Sequence[FeatureRow]:
        """One reading for all asks: rows that several of them need travel once."""
        places: dict[RowRef, int] = {}
        wanted = [[places.setdefault(ref, len(places)) for ref in _refs(ask)] for ask in asks]
        rows = self._reader.read(list(places)).rows
        return [_features(ask, *(rows[place] for place in mine)) for ask, mine in zip(asks, wanted, strict=True)]


def _refs(ask: Ask) -> tuple[RowRef, ...]:
    fields = ask.fields
    origin, carrier, tail = fields["origin"], fields["carrier"], fields.get("tail_number") or ""
    return (
        RowRef(ORIGIN.name, (origin,)),
        RowRef(CARRIER.name, (origin, carrier)),
        RowRef(DESTINATION.name, (fields["destination"],)),
        RowRef(OBSERVATION.name, (origin,)),
        RowRef(AIRCRAFT.name, (tail,)),
        RowRef(REGISTER.name, (tail,)),
    )


def _features(
    ask: Ask,
    origin: bytes | None,
    carrier: bytes | None,
    destination: bytes | None,
    observation: bytes | None,
    aircraft: bytes | None,
    register: bytes | None,
) -> FeatureRow:
    now, fields = int(ask.moment.timestamp()), ask.fields
    seats = built = None
    if register is not None:
        _, seats, built = map(_known, _REGISTER.unpack_from(register, _HEADER.size))
    weather, weather_age = _observed(observation, now)
    by_origin, origin_age = _mean(origin, now, DEPARTURES_WINDOW_S)
    by_carrier, _ = _mean(carrier, now, DEPARTURES_WINDOW_S)
    by_destination, destination_age = _mean(destination, now, ARRIVALS_WINDOW_S)
    delay, aircraft_age = _last_delay(aircraft, now)
    known = Known(seats, built, weather, by_origin, by_carrier, by_destination, delay)
    values = features_of(
        fields["scheduled_departure"], fields["carrier"], fields["origin"], fields["destination"], fields.get("distance_miles"), known
    )
    ages = {"weather": weather_age, "origin_departures": origin_age, "destination_arrivals": destination_age, "aircraft": aircraft_age}
    return FeatureRow(values, ages)


_NOTHING = Mean(0, 0)


def _mean(row: bytes | None, now: int, window_s: int) -> tuple[Mean, float | None]:
    if row is None:
        return _NOTHING, None
    body = memoryview(row)[_HEADER.size :]
    seconds, delays = body.cast("I")[::2].tolist(), body.cast("i")[1::2].tolist()
    end = bisect_right(seconds, now)
    begin = bisect_right(seconds, now - window_s, 0, end)
    if begin == end:
        return _NOTHING, None
    return Mean(sum(delays[begin:end]), end - begin), float(now - seconds[end - 1])


def _last_delay(row: bytes | None, now: int) -> tuple[int | None, float | None]:
    for at, delay in reversed(list(_DELAY.iter_unpack(row[_HEADER.size :]))) if row is not None else ():
        if at <= now:
            return (delay, float(now - at)) if at > now - AIRCRAFT_MAX_AGE_S else (None, None)
    return None, None


def _observed(row: bytes | None, now: int) -> tuple[tuple[float | None, ...] | None, float | None]:
    for at, *values in reversed(list(_WEATHER.iter_unpack(row[_HEADER.size :]))) if row is not None else ():
        if at <= now:
            return (tuple(map(_known, values)), float(now - at)) if at > now - WEATHER_MAX_AGE_S else (None, None)
    return None, None


def _with_aircraft(places: list[RowRef], tail: str | None) -> list[RowRef]:
    return [*places, RowRef(AIRCRAFT.name, (tail,))] if tail else places


def _nan(value: float | None) -> float:
    return math.nan if value is None else value


def _known(value: float) -> float | None:
    return None if value != value else value
