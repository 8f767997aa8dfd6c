"""A few made-up flights with human defaults, and the two engines that answer what was known about one of them."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from mlops_lab.features import Ask, Value
from mlops_lab.flights import messages
from mlops_lab.flights.offline import history_features
from mlops_lab.flights.online import FlightState
from mlops_lab.flights.online_usecase import FlightsOnline
from mlops_lab.flights.schema import FLIGHTS, WEATHER_TABLE
from mlops_lab.flights.source import Year
from mlops_lab.flights.timeline import question
from mlops_lab.flights.transform import FEATURES, WEATHER
from mlops_lab.serving.bodies import Bodies

NAMES = tuple(feature.name for feature in FEATURES)
SCHEDULED = datetime(2013, 7, 1, 16, 30, tzinfo=UTC)
MOMENT = SCHEDULED - timedelta(hours=1)
"""When the question about a flight at `SCHEDULED` is asked."""

BODIES = Bodies(FlightsOnline())

Read = Callable[[Year, str], dict[str, Value]]
"""The features of one flight of a year, by name."""


def ask(item: Mapping[str, Any]) -> Ask:
    """The question of one item, read as the service reads it."""
    return BODIES.predict(json.dumps(item).encode()).asks[0]


def a_flight(name: str = "asked", **changes: Any) -> dict[str, Any]:
    """A flight of United from Newark to Chicago that has not left yet."""
    usual: dict[str, Any] = {
        "flight_id": name,
        "scheduled_departure": SCHEDULED,
        "carrier": "UA",
        "flight": 1,
        "tail_number": "N1",
        "origin": "EWR",
        "destination": "ORD",
        "distance_miles": 719.0,
        "departed_at": None,
        "departure_delay_min": None,
        "arrived_at": None,
        "arrival_delay_min": None,
    }
    return usual | changes


def departed(at: datetime, delay_min: int, name: str = "", **changes: Any) -> dict[str, Any]:
    """A flight that left at a moment."""
    usual = {"tail_number": "N2", "destination": "MIA", "departed_at": at, "departure_delay_min": float(delay_min)}
    return a_flight(name or f"departed {at} {delay_min}", **(usual | changes))


def arrived(at: datetime, delay_min: int, name: str = "", **changes: Any) -> dict[str, Any]:
    """A flight that landed at a moment; when it left is of no interest."""
    usual = {"tail_number": "N2", "origin": "JFK", "arrived_at": at, "arrival_delay_min": float(delay_min)}
    return a_flight(name or f"arrived {at} {delay_min}", **(usual | changes))


def observed(at: datetime, temperature_f: float, **changes: Any) -> dict[str, Any]:
    """The weather at Newark; the other values are numbers that do not matter."""
    usual = dict.fromkeys(WEATHER, 1.0) | {"origin": "EWR", "observed_at": at, "temperature_f": temperature_f}
    return usual | changes


def a_year(
    flights: Sequence[Mapping[str, Any]], weather: Sequence[Mapping[str, Any]] = (), aircraft: Sequence[tuple[Any, ...]] = ()
) -> Year:
    """Rows as the tables that the source gives."""
    return Year(
        _frame(flights, FLIGHTS.names, ("scheduled_departure", "departed_at", "arrived_at")),
        _frame(weather, WEATHER_TABLE.names, ("observed_at",)),
        pd.DataFrame(list(aircraft), columns=["tail_number", "seats", "built"]).astype({"seats": "float64", "built": "float64"}),
    )


def _frame(rows: Sequence[Mapping[str, Any]], names: Sequence[str], moments: Sequence[str]) -> pd.DataFrame:
    table = pd.DataFrame([dict(row) for row in rows], columns=list(names))
    for name in table.columns:
        if name in moments:
            table[name] = pd.to_datetime(table[name], utc=True).astype("datetime64[us, UTC]")
        elif name.endswith("_min") or name in WEATHER or name == "distance_miles":
            table[name] = table[name].astype("float64")
    return table


def span(year: Year, after: datetime, until: datetime) -> Year:
    """The part of a year that was scheduled, or observed, in (after, until]."""
    flights, weather = year.flights, year.weather
    return replace(
        year,
        flights=flights[(flights["scheduled_departure"] > after) & (flights["scheduled_departure"] <= until)].reset_index(drop=True),
        weather=weather[(weather["observed_at"] > after) & (weather["observed_at"] <= until)].reset_index(drop=True),
    )


def another_future(year: Year, since: datetime, seed: int) -> Year:
    """The same world up to a moment, and another one from one second later: other delays, other weather, more flights."""
    chance = np.random.default_rng(seed)
    flights, weather = year.flights.copy(), year.weather.copy()
    for when, delay in (("departed_at", "departure_delay_min"), ("arrived_at", "arrival_delay_min")):
        behind = (flights[when] > since) | flights[when].isna()
        # Two of three happen in the very next second: whoever looks one second too far sees them.
        seconds = np.where(chance.random(len(flights)) < 2 / 3, 1, chance.integers(1, 12 * 3600, len(flights)))
        later = pd.Series(pd.Timestamp(since) + pd.to_timedelta(seconds, unit="s"), index=flights.index)
        flights.loc[behind, when] = later[behind].astype("datetime64[us, UTC]")
        flights.loc[behind, delay] = chance.integers(-60, 2000, len(flights)).astype(float)[behind]
    next_second = pd.Timestamp(since + timedelta(seconds=1))
    more = flights.tail(50).assign(flight_id=[f"new-{i}" for i in range(50)], departed_at=next_second, arrived_at=next_second)
    behind = weather["observed_at"] > since
    weather.loc[behind, list(WEATHER)] = chance.uniform(200, 300, (int(behind.sum()), len(WEATHER)))
    storm = pd.DataFrame([observed(since + timedelta(seconds=1), 999.0, origin=origin) for origin in ("EWR", "JFK", "LGA")])
    storm["observed_at"] = pd.to_datetime(storm["observed_at"], utc=True).astype("datetime64[us, UTC]")
    return replace(
        year, flights=pd.concat([flights, more], ignore_index=True), weather=pd.concat([weather, storm[weather.columns]], ignore_index=True)
    )


def messages_of(year: Year) -> list[messages.Message]:
    """Every fact of a year, by kind and not in order."""
    facts = list(messages.aircraft(year.aircraft, SCHEDULED))
    facts += [messages.observed(row) for row in year.weather.itertuples(index=False)]
    flights = year.flights
    facts += [messages.departed(row) for row in flights[flights["departed_at"].notna()].itertuples(index=False)]
    facts += [messages.arrived(row) for row in flights[flights["arrived_at"].notna()].itertuples(index=False)]
    return facts


def answers_offline(year: Year, flight_ids: Sequence[str]) -> dict[str, tuple[Value, ...]]:
    """Features by flight, as the training side sees them; NaN as None."""
    found = history_features(year.flights, year.weather, year.aircraft)
    found = found.assign(flight_id=year.flights["flight_id"]).set_index("flight_id").loc[list(flight_ids), list(NAMES)].astype(object)
    values = found.where(found.notna(), None)
    return dict(zip(values.index, values.itertuples(index=False, name=None), strict=True))


def answers_online(state: FlightState, year: Year, flight_ids: Sequence[str]) -> dict[str, tuple[Value, ...]]:
    """Features by flight, as the service sees them when it is asked through its own request."""
    wanted = year.flights.set_index("flight_id", drop=False).loc[list(flight_ids)]
    return {row.flight_id: state.read(ask(question(row))).values for row in wanted.itertuples(index=False)}


def online(year: Year) -> FlightState:
    """A feature state that has taken in every fact of a year."""
    state = FlightState()
    state.apply(messages_of(year))
    return state


def same(one: Sequence[Value], other: Sequence[Value]) -> bool:
    """Exactly equal, to the last bit; no value is NaN."""
    return len(one) == len(other) and all(type(a) is type(b) and a == b for a, b in zip(one, other, strict=True))


def random_part(values: Sequence[Any], count: int, seed: int) -> list[Any]:
    """So many of them, drawn with a seed, in their order."""
    chosen = np.random.default_rng(seed).choice(len(values), size=min(count, len(values)), replace=False)
    return [values[at] for at in np.sort(chosen)]
