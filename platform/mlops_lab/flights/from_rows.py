"""The features of flights read from the rows of the online table: the counterpart of `rows.py`. Standard library only."""

import struct
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from mlops_lab.events import Message
from mlops_lab.features import Ask, FeatureRow
from mlops_lab.features.rows import RowReader, RowRef
from mlops_lab.flights.rows import (
    AIRCRAFT,
    CARRIER,
    DELAY_FACT,
    DESTINATION,
    FORMAT,
    HEADER,
    OBSERVATION,
    ORIGIN,
    REGISTER,
    REGISTER_FACT,
    WEATHER_FACT,
)
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
        """One reading for all asks: rows that several of them need travel once, and are taken apart once."""
        places: dict[RowRef, int] = {}
        wanted = [[places.setdefault(ref, len(places)) for ref in _refs(ask)] for ask in asks]
        rows = self._reader.read(list(places)).rows
        opened: list[Any] = [_OPEN[ref.view](row) for ref, row in zip(places, rows, strict=True)]
        return [_features(ask, *[opened[place] for place in mine]) for ask, mine in zip(asks, wanted, strict=True)]


def _refs(ask: Ask) -> tuple[RowRef, ...]:
    """In the order of the arguments of `_features`."""
    fields = ask.fields
    return _of_route(fields["origin"], fields["carrier"], fields["destination"]) + _of_aircraft(fields.get("tail_number") or "")


@lru_cache(4096)
def _of_route(origin: str, carrier: str, destination: str) -> tuple[RowRef, ...]:
    return (
        RowRef(ORIGIN.name, (origin,)),
        RowRef(CARRIER.name, (origin, carrier)),
        RowRef(DESTINATION.name, (destination,)),
        RowRef(OBSERVATION.name, (origin,)),
    )


@lru_cache(8192)
def _of_aircraft(tail: str) -> tuple[RowRef, ...]:
    return (RowRef(AIRCRAFT.name, (tail,)), RowRef(REGISTER.name, (tail,)))


class _Delays(NamedTuple):
    """A row of delays taken apart: all facts behind the second `since`, in order."""

    since: int
    seconds: Sequence[int]
    delays: Sequence[int]


class _Observations(NamedTuple):
    """A row of weather taken apart: all seconds, and all numbers, a second before its values; NaN for unknown."""

    seconds: Sequence[int]
    numbers: Sequence[float]


def _features(
    ask: Ask,
    origin: _Delays | None,
    carrier: _Delays | None,
    destination: _Delays | None,
    observations: _Observations | None,
    aircraft: _Delays | None,
    register: tuple[float | None, float | None],
) -> FeatureRow:
    now, fields = int(ask.moment.timestamp()), ask.fields
    weather, weather_age = _observed(observations, now)
    by_origin, origin_age = _mean(origin, now, DEPARTURES_WINDOW_S)
    by_carrier, _ = _mean(carrier, now, DEPARTURES_WINDOW_S)
    by_destination, destination_age = _mean(destination, now, ARRIVALS_WINDOW_S)
    delay, aircraft_age = _last_delay(aircraft, now)
    known = Known(*register, weather, by_origin, by_carrier, by_destination, delay)
    values = features_of(
        fields["scheduled_departure"], fields["carrier"], fields["origin"], fields["destination"], fields.get("distance_miles"), known
    )
    ages = {"weather": weather_age, "origin_departures": origin_age, "destination_arrivals": destination_age, "aircraft": aircraft_age}
    return FeatureRow(values, ages)


_NOTHING = Mean(0, 0)


def _mean(row: _Delays | None, now: int, window_s: int) -> tuple[Mean, float | None]:
    """Over (now - window, now]. A row that has forgotten part of that knows nothing: the mean of the rest is another mean."""
    if row is None or now - window_s < row.since:
        return _NOTHING, None
    seconds = row.seconds
    end = bisect_right(seconds, now)
    begin = bisect_right(seconds, now - window_s, 0, end)
    if begin == end:
        return _NOTHING, None
    return Mean(sum(row.delays[begin:end]), end - begin), float(now - seconds[end - 1])


def _last_delay(row: _Delays | None, now: int) -> tuple[int | None, float | None]:
    """What the row has forgotten is older than what it has, so whatever is found is the last."""
    at = bisect_right(row.seconds, now) if row is not None else 0
    if row is None or not at or row.seconds[at - 1] <= now - AIRCRAFT_MAX_AGE_S:
        return None, None
    return row.delays[at - 1], float(now - row.seconds[at - 1])


def _observed(row: _Observations | None, now: int) -> tuple[tuple[float | None, ...] | None, float | None]:
    at = bisect_right(row.seconds, now) if row is not None else 0
    if row is None or not at or row.seconds[at - 1] <= now - WEATHER_MAX_AGE_S:
        return None, None
    end = at * (1 + len(WEATHER))
    return tuple(map(_known, row.numbers[end - len(WEATHER) : end])), float(now - row.seconds[at - 1])


def _open_delays(row: bytes | None) -> _Delays | None:
    facts = _facts(row, DELAY_FACT.size)
    if row is None or facts is None:
        return None
    found = _many(DELAY_FACT, facts).unpack_from(row, HEADER.size)
    return _Delays(HEADER.unpack_from(row)[1], found[::2], found[1::2])


@lru_cache(4096)
def _many(one: struct.Struct, facts: int) -> struct.Struct:
    """So many facts at once: taken apart in one go."""
    return struct.Struct("<" + one.format.removeprefix("<") * facts)


def _open_observations(row: bytes | None) -> _Observations | None:
    facts = _facts(row, WEATHER_FACT.size)
    if row is None or facts is None:
        return None
    found = _many(WEATHER_FACT, facts).unpack_from(row, HEADER.size)
    return _Observations(found[:: 1 + len(WEATHER)], found)


def _open_register(row: bytes | None) -> tuple[float | None, float | None]:
    if row is None or _facts(row, REGISTER_FACT.size) != 1:
        return None, None
    _, seats, built = REGISTER_FACT.unpack_from(row, HEADER.size)
    return _known(seats), _known(built)


_OPEN: Mapping[str, Callable[[bytes | None], object]] = {
    ORIGIN.name: _open_delays,
    CARRIER.name: _open_delays,
    DESTINATION.name: _open_delays,
    AIRCRAFT.name: _open_delays,
    OBSERVATION.name: _open_observations,
    REGISTER.name: _open_register,
}


def _facts(row: bytes | None, size: int) -> int | None:
    """How many facts, each of this size, a row has; None for what is no row of this format."""
    if row is None or row[: len(FORMAT)] != FORMAT or len(row) < HEADER.size:
        return None
    facts, rest = divmod(len(row) - HEADER.size, size)
    return None if rest else facts


def _known(value: float) -> float | None:
    return None if value != value else value
