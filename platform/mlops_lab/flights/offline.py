"""Point-in-time features of whole tables: the as-of join of the training side.

For each flight, only facts at or before its prediction moment are used. `online.py` answers the same from events; a test holds them equal.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlops_lab.flights.transform import (
    AIRCRAFT_MAX_AGE_S,
    ARRIVALS_WINDOW_S,
    ASKED_BEFORE_DEPARTURE,
    DEPARTURES_WINDOW_S,
    FEATURES,
    WEATHER,
    WEATHER_MAX_AGE_S,
    Known,
    Mean,
    features_of,
)

Seconds = NDArray[np.int64]
_SPAN = 1 << 34
"""More seconds than any moment has, so that (group, second) becomes one sortable number."""


class Happened(NamedTuple):
    """What had happened, as tables: any order of rows, each fact once.

    Attributes:
        departures: origin, carrier, tail_number, departed_at, departure_delay_min.
        arrivals: destination, tail_number, arrived_at, arrival_delay_min.
        weather: Columns of `schema.WEATHER_COLUMNS`.
        aircraft: tail_number, seats, built.
    """

    departures: pd.DataFrame
    arrivals: pd.DataFrame
    weather: pd.DataFrame
    aircraft: pd.DataFrame


def history_features(flights: pd.DataFrame, weather: pd.DataFrame, aircraft: pd.DataFrame) -> pd.DataFrame:
    """The features of every flight, as known one hour before its scheduled departure.

    Args:
        flights: Columns of `schema.FLIGHT_COLUMNS`, any order of rows; also the source of what had already happened.
        weather: Columns of `schema.WEATHER_COLUMNS`.
        aircraft: tail_number, seats, built.

    Returns:
        One row per flight, same index; columns are the names of `FEATURES`, numbers as float64 with NaN for unknown.
    """
    happened = Happened(flights[flights["departed_at"].notna()], flights[flights["arrived_at"].notna()], weather, aircraft)
    return features_as_of(flights, flights["scheduled_departure"] - ASKED_BEFORE_DEPARTURE, happened)


def features_as_of(planned: pd.DataFrame, moments: pd.Series, happened: Happened) -> pd.DataFrame:
    """The features of planned flights, each as known at a moment of its own.

    Args:
        planned: scheduled_departure, carrier, origin, destination, distance_miles, tail_number.
        moments: Event time, aware, one per row of `planned`.
        happened: The facts; those behind a row's moment do not count for it.

    Returns:
        As `history_features`.
    """
    known = _known(planned, _seconds(moments), happened)
    schedule = zip(
        [at.to_pydatetime() for at in planned["scheduled_departure"]],
        planned["carrier"],
        planned["origin"],
        planned["destination"],
        planned["distance_miles"],
        strict=True,
    )
    rows = [features_of(*flight, facts) for flight, facts in zip(schedule, known, strict=True)]
    table = pd.DataFrame.from_records(rows, columns=[f.name for f in FEATURES], index=planned.index)
    numbers = {f.name: "float64" for f in FEATURES if f.kind == "number"}
    return table.astype(numbers)


def _known(planned: pd.DataFrame, moments: Seconds, happened: Happened) -> Iterator[Known]:
    departed, arrived, weather, aircraft = happened
    pairs = [f"{o} {c}" for o, c in zip(planned["origin"], planned["carrier"], strict=True)]
    departed_pairs = [f"{o} {c}" for o, c in zip(departed["origin"], departed["carrier"], strict=True)]
    departures, departure_delays = _seconds(departed["departed_at"]), departed["departure_delay_min"].to_numpy()
    arrivals, arrival_delays = _seconds(arrived["arrived_at"]), arrived["arrival_delay_min"].to_numpy()
    origin = _means(departed["origin"], departures, departure_delays, planned["origin"], moments, DEPARTURES_WINDOW_S)
    carrier = _means(departed_pairs, departures, departure_delays, pairs, moments, DEPARTURES_WINDOW_S)
    destination = _means(arrived["destination"], arrivals, arrival_delays, planned["destination"], moments, ARRIVALS_WINDOW_S)
    last_delay = _last_delay(departed, arrived, planned["tail_number"], moments)
    observation = _last(weather["origin"], _seconds(weather["observed_at"]), planned["origin"], moments, WEATHER_MAX_AGE_S)
    observations = [tuple(None if v != v else v for v in row) for row in weather[list(WEATHER)].itertuples(index=False)]
    planes = {
        tail: (_known_number(seats), _known_number(built))
        for tail, seats, built in aircraft[["tail_number", "seats", "built"]].itertuples(index=False)
    }
    found = zip(planned["tail_number"], observation, origin, carrier, destination, last_delay, strict=True)
    for tail, at, by_origin, by_carrier, by_destination, delay in found:
        seats, built = planes.get(tail, (None, None))
        yield Known(seats, built, observations[at] if at >= 0 else None, by_origin, by_carrier, by_destination, delay)


def _means(
    event_groups: Sequence[str] | pd.Series,
    event_at: Seconds,
    delays: NDArray[np.float64],
    groups: Sequence[str] | pd.Series,
    moments: Seconds,
    window_s: int,
) -> list[Mean]:
    """Sum and count of the delays in (moment - window, moment], per group."""
    keys, asked = _keys(event_groups, event_at, groups, moments)
    order = np.argsort(keys, kind="stable")
    totals = np.concatenate([[0], np.cumsum(delays[order].astype(np.int64))])
    upper = np.searchsorted(keys[order], asked, side="right")
    lower = np.searchsorted(keys[order], asked - window_s, side="right")
    return [Mean(total, count) for total, count in zip((totals[upper] - totals[lower]).tolist(), (upper - lower).tolist(), strict=True)]


def _last_delay(departed: pd.DataFrame, arrived: pd.DataFrame, tails: pd.Series, moments: Seconds) -> list[int | None]:
    """The delay of an aircraft's newest departure or arrival; an arrival counts as later than a departure of the same minute."""
    left = {"tail": departed["tail_number"], "at": _seconds(departed["departed_at"]), "delay": departed["departure_delay_min"]}
    landed = {"tail": arrived["tail_number"], "at": _seconds(arrived["arrived_at"]), "delay": arrived["arrival_delay_min"]}
    events = pd.concat([pd.DataFrame(left).assign(rank=0), pd.DataFrame(landed).assign(rank=1)])
    events = events[events["tail"].notna()].sort_values(["at", "rank", "delay"], kind="stable", ignore_index=True)
    found = _last(events["tail"], events["at"].to_numpy(), tails.fillna(""), moments, AIRCRAFT_MAX_AGE_S)
    delays = events["delay"].astype("int64").tolist()
    return [delays[at] if at >= 0 else None for at in found]


def _last(event_groups: pd.Series, event_at: Seconds, groups: pd.Series, moments: Seconds, max_age_s: int) -> list[int]:
    """The position of the newest event of each group at or before the moment and younger than the maximum age; -1 for none."""
    if not len(event_at):
        return [-1] * len(moments)
    keys, asked = _keys(event_groups, event_at, groups, moments)
    order = np.argsort(keys, kind="stable")
    at = np.searchsorted(keys[order], asked, side="right") - 1
    fresh = (at >= 0) & (keys[order][np.maximum(at, 0)] > asked - max_age_s)
    found: list[int] = np.where(fresh, order[np.maximum(at, 0)], -1).tolist()
    return found


def _keys(event_groups: Any, event_at: Seconds, groups: Any, moments: Seconds) -> tuple[Seconds, Seconds]:
    """Group and second of events and of questions as one number each, so that one sort serves all groups."""
    codes, _ = pd.factorize(np.concatenate([np.asarray(event_groups, dtype=object), np.asarray(groups, dtype=object)]))
    codes = (codes.astype(np.int64) + 1) * _SPAN
    return codes[: len(event_at)] + event_at, codes[len(event_at) :] + moments


def _seconds(moments: pd.Series) -> Seconds:
    seconds: Seconds = moments.astype("datetime64[us, UTC]").astype("int64").to_numpy() // 1_000_000
    return seconds


def _known_number(value: float) -> float | None:
    return None if value != value else float(value)
