"""The gate's rules let every real week pass and stop what is not one."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from mlops_lab.data.batch_files import read_batch, write_batch
from mlops_lab.data.snapshot import Batch
from mlops_lab.flights.schema import TABLES, batch_expectations, checked_tables
from mlops_lab.flights.source import Year
from mlops_lab.gates import PandasGate, Verdict
from mlops_lab.monitoring.window import Window


def verdict(batch: Batch) -> Verdict:
    return PandasGate().check(batch.name, batch.digest, checked_tables(batch.tables), batch_expectations(batch))


def test_every_real_week_is_accepted(batches: list[Batch]) -> None:
    verdicts = [PandasGate().check(one.name, "d" * 64, checked_tables(one.tables), batch_expectations(one)) for one in batches]

    assert {one.subject: [reason.expectation for reason in one.reasons] for one in verdicts if not one.accepted} == {}


@pytest.fixture(scope="module")
def july(year: Year) -> Batch:
    return year.batch(Window.of_week("2013-W28"))


def test_a_week_is_the_same_after_a_way_through_files(july: Batch, tmp_path: Path) -> None:
    write_batch(july, tmp_path / "in")
    read = read_batch(tmp_path / "in", TABLES, july.name, july.start, july.end)

    assert read.digest == july.digest
    assert verdict(read).accepted


def with_weather(**changes: Callable[[pd.DataFrame], object]) -> Callable[[Batch], dict[str, pd.DataFrame]]:
    return lambda batch: {**batch.tables, "weather": batch.tables["weather"].assign(**changes)}


def with_flights(**changes: Callable[[pd.DataFrame], object]) -> Callable[[Batch], dict[str, pd.DataFrame]]:
    return lambda batch: {**batch.tables, "flights": batch.tables["flights"].assign(**changes)}


def celsius(column: str) -> Callable[[pd.DataFrame], object]:
    return lambda weather: ((weather[column] - 32) / 1.8).round(1)


def now_and_then(column: str, value: object, every: int) -> Callable[[pd.DataFrame], object]:
    return lambda table: table[column].where(table.index % every != 0, value)


BAD = {
    "temperatures in °C": (
        with_weather(temperature_f=celsius("temperature_f"), dew_point_f=celsius("dew_point_f")),
        "humidity fits temperature and dew point in °F",
    ),
    "one temperature in °C": (with_weather(temperature_f=celsius("temperature_f")), "humidity fits temperature and dew point in °F"),
    "temperatures in kelvin": (
        with_weather(temperature_f=lambda w: (w["temperature_f"] + 459.67) / 1.8),
        "temperature is between -30 and 115 °F",
    ),
    "distances in km": (
        with_flights(distance_miles=lambda f: f["distance_miles"] * 1.609344),
        "mean distance is that of New York's network in miles",
    ),
    "wind in knots by a factor of ten": (
        with_weather(wind_speed_mph=lambda w: w["wind_speed_mph"] * 20),
        "wind is between 0 and 120 mph, one sensor error in 200 apart",
    ),
    "every flight twice": (
        lambda b: {**b.tables, "flights": pd.concat([b.tables["flights"]] * 2, ignore_index=True)},
        "every flight is there once",
    ),
    "one flight twice": (
        lambda b: {**b.tables, "flights": pd.concat([b.tables["flights"], b.tables["flights"].head(1)], ignore_index=True)},
        "every flight is there once",
    ),
    "one observation twice": (
        lambda b: {**b.tables, "weather": pd.concat([b.tables["weather"], b.tables["weather"].head(1)], ignore_index=True)},
        "an airport has one observation an hour",
    ),
    "half a week": (lambda b: {**b.tables, "flights": b.tables["flights"].head(2900)}, "a week holds 3,000 to 10,000 flights"),
    "no flight": (lambda b: {**b.tables, "flights": b.tables["flights"].head(0)}, "a week holds 3,000 to 10,000 flights"),
    "a day without weather stations": (
        lambda b: {**b.tables, "weather": b.tables["weather"].iloc[150:]},
        "weather is hourly at three airports",
    ),
    "weather without values": (
        with_weather(temperature_f=now_and_then("temperature_f", float("nan"), 10)),
        "temperature is mostly known",
    ),
    "carriers that are gone": (with_flights(carrier=now_and_then("carrier", None, 500)), "carrier is known"),
    "tail numbers that are gone": (with_flights(tail_number=now_and_then("tail_number", None, 8)), "tail number is known for 90 %"),
    "outcomes that are gone": (with_flights(arrival_delay_min=now_and_then("arrival_delay_min", None, 4)), "four of five flights arrive"),
    "an airport that is not New York's": (
        with_flights(origin=now_and_then("origin", "BOS", 1000)),
        "flights leave from EWR, JFK or LGA",
    ),
    "delays in seconds": (
        with_flights(arrival_delay_min=lambda f: f["arrival_delay_min"] * 60),
        "arrival delay is between -150 and 2,000 min",
    ),
    "arrivals before departures": (
        with_flights(arrived_at=lambda f: f["departed_at"] - pd.Timedelta(minutes=5)),
        "flights arrive after they departed",
    ),
    "a column too many": (with_flights(weather_delay=lambda f: 0.0), "flights have exactly the agreed columns"),
    "a column too few": (
        lambda b: {**b.tables, "weather": b.tables["weather"].drop(columns="pressure_mb")},
        "weather has exactly the agreed columns",
    ),
    "a column with another name": (
        lambda b: {**b.tables, "flights": b.tables["flights"].rename(columns={"distance_miles": "distance_km"})},
        "flights have exactly the agreed columns",
    ),
    "humidity that is gone": (
        lambda b: {**b.tables, "weather": b.tables["weather"].drop(columns="humidity_pct")},
        "humidity fits temperature and dew point in °F",
    ),
    "humidity in words": (with_weather(humidity_pct=lambda w: "wet"), "humidity is between 0 and 100 %"),
}


@pytest.mark.parametrize("name", list(BAD))
def test_a_week_that_is_not_right_is_refused_for_that_reason(july: Batch, name: str) -> None:
    change, reason = BAD[name]
    found = verdict(replace(july, tables=change(july)))

    assert not found.accepted
    assert reason in [each.expectation for each in found.reasons]


def test_the_rows_of_another_week_are_refused(july: Batch, year: Year) -> None:
    """All of them, or a handful that slipped in."""
    other = year.batch(Window.of_week("2013-W29"))
    few = pd.concat([july.tables["flights"], other.tables["flights"].tail(5)], ignore_index=True)

    for tables in (other.tables, {**july.tables, "flights": few}):
        reasons = [reason.expectation for reason in verdict(replace(july, tables=tables)).reasons]
        assert "flights belong to the batch's week" in reasons


def test_a_celsius_week_is_refused_in_every_season(batches: list[Batch]) -> None:
    change = BAD["temperatures in °C"][0]
    accepted = [one.name for one in batches[::5] if verdict(replace(one, tables=change(one))).accepted]

    assert accepted == []
