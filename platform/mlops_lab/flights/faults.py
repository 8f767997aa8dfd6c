"""What can go wrong with flights, on purpose: each fault changes the delivered world from a moment on. `lab break NAME` starts one."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import pandas as pd

from mlops_lab.errors import UnknownName
from mlops_lab.flights.source import Year
from mlops_lab.flights.transform import ASKED_BEFORE_DEPARTURE

CLOSED_AIRPORT = "LGA"
CLOSED_FROM_HOUR = 16
CLOSED_DELAY_MIN = 45


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of the world or of a feed.

    Attributes:
        name: As in `lab break NAME`.
        meaning: What happens, for a person.
        promise: What the platform does about it.
        ends_in: The decision that a week of it is expected to end in.
        change: From a year and a moment to the year as it is with the fault from then on.
    """

    name: str
    meaning: str
    promise: str
    ends_in: str
    change: Callable[[Year, datetime], Year]


def _concept_shift(year: Year, since: datetime) -> Year:
    """A runway closes at one airport: its evening flights leave as before and land late. No input tells."""
    flights = year.flights.copy()
    local = flights["scheduled_departure"].dt.tz_convert("America/New_York")
    hit = (flights["origin"] == CLOSED_AIRPORT) & (local.dt.hour >= CLOSED_FROM_HOUR) & flights["arrived_at"].notna()
    hit &= flights["scheduled_departure"] - ASKED_BEFORE_DEPARTURE >= since
    flights.loc[hit, "arrival_delay_min"] += CLOSED_DELAY_MIN
    flights.loc[hit, "arrived_at"] += pd.Timedelta(minutes=CLOSED_DELAY_MIN)
    return replace(year, flights=flights)


def _unit_change(year: Year, since: datetime) -> Year:
    """The weather station is replaced by one that reports °C, and nobody says so."""
    weather = year.weather.copy()
    hit = weather["observed_at"] >= since
    for column in ("temperature_f", "dew_point_f"):
        weather.loc[hit, column] = ((weather.loc[hit, column] - 32) / 1.8).round(1)
    return replace(year, weather=weather)


def _null_burst(year: Year, since: datetime) -> Year:
    """The weather feed keeps sending, without values."""
    weather = year.weather.copy()
    hit = weather["observed_at"] >= since
    for column in weather.columns.difference(["origin", "observed_at"]):
        weather.loc[hit, column] = np.nan
    return replace(year, weather=weather)


CATALOGUE: dict[str, Fault] = {
    fault.name: fault
    for fault in (
        Fault(
            "concept-shift",
            f"A runway closes: flights that leave {CLOSED_AIRPORT} after {CLOSED_FROM_HOUR}:00 arrive {CLOSED_DELAY_MIN} minutes later.",
            "The loss of skill is seen on arrived labels, a challenger is trained on them, and takes over if it is better.",
            "retrain",
            _concept_shift,
        ),
        Fault(
            "unit-change",
            "The weather feed switches from °F to °C without a word.",
            "A data incident: somebody is paged, nothing is trained on it.",
            "data_incident",
            _unit_change,
        ),
        Fault(
            "null-burst",
            "The weather feed keeps sending observations without values.",
            "A data incident: somebody is paged, nothing is trained on it.",
            "data_incident",
            _null_burst,
        ),
    )
}


def fault_called(name: str) -> Fault:
    """Look a fault up. Raises UnknownName with the near miss."""
    if name not in CATALOGUE:
        raise UnknownName.of("fault", name, CATALOGUE)
    return CATALOGUE[name]


def during(fault: Fault, year: Year, since: datetime, until: datetime | None) -> Year:
    """The year with a fault from one moment to another (None: for good): what is asked or observed behind its end is as it was."""
    changed = fault.change(year, since)
    if until is None:
        return changed
    asked = year.flights["scheduled_departure"] - ASKED_BEFORE_DEPARTURE
    flights = pd.concat([changed.flights[asked < until], year.flights[asked >= until]]).sort_index()
    seen = year.weather["observed_at"]
    weather = pd.concat([changed.weather[seen < until], year.weather[seen >= until]]).sort_index()
    return replace(changed, flights=flights, weather=weather)
