"""What a week of flights looks like: the tables of a batch and what the gates expect of them."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from mlops_lab.data.schema import Column, TableSchema
from mlops_lab.data.snapshot import Batch
from mlops_lab.gates.expectation import Expectation

ORIGINS = ("EWR", "JFK", "LGA")

FLIGHTS = TableSchema(
    "flights",
    (
        Column("flight_id", "text", nullable=False),
        Column("scheduled_departure", "moment", nullable=False),
        Column("carrier", "text", nullable=False),
        Column("flight", "integer", nullable=False),
        Column("tail_number", "text"),
        Column("origin", "text", nullable=False),
        Column("destination", "text", nullable=False),
        Column("distance_miles", "number", nullable=False),
        Column("departed_at", "moment"),
        Column("departure_delay_min", "number"),
        Column("arrived_at", "moment"),
        Column("arrival_delay_min", "number"),
    ),
)
WEATHER_TABLE = TableSchema(
    "weather",
    (
        Column("origin", "text", nullable=False),
        Column("observed_at", "moment", nullable=False),
        Column("temperature_f", "number"),
        Column("dew_point_f", "number"),
        Column("humidity_pct", "number"),
        Column("wind_direction_deg", "number"),
        Column("wind_speed_mph", "number"),
        Column("wind_gust_mph", "number"),
        Column("precipitation_in", "number"),
        Column("pressure_mb", "number"),
        Column("visibility_miles", "number"),
    ),
)
TABLES = (FLIGHTS, WEATHER_TABLE)

HUMIDITY_GAP = "humidity_gap_pct"
HUMIDITY_GAP_LIMIT = 2.0
"""Weekly means of the real year lie between 0.03 and 0.49; the same weeks delivered in °C, between 6.2 and 14.8."""


def humidity_gap(rows: pd.DataFrame) -> pd.Series:
    """By how much the humidity differs from what temperature and dew point imply, in percentage points.

    The three are measured together and bound by physics, so the gap is near 0 in every season; a wrong unit in one of them, or in two,
    breaks it although each value stays in its range.

    Source: Magnus formula with the coefficients of Alduchov and Eskridge (1996).
    """
    celsius = {name: (rows[name] - 32) / 1.8 for name in ("temperature_f", "dew_point_f")}
    exponent = {name: 17.625 * value / (243.04 + value) for name, value in celsius.items()}
    implied = 100 * np.exp(exponent["dew_point_f"] - exponent["temperature_f"])
    return (implied - rows["humidity_pct"]).abs()


def checked_tables(tables: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The tables as the gate looks at them: with the columns that its rules need derived."""
    weather = tables["weather"]
    numbers = [column for column in ("temperature_f", "dew_point_f", "humidity_pct") if column in weather]
    if len(numbers) == 3 and all(pd.api.types.is_numeric_dtype(weather[column]) for column in numbers):
        weather = weather.assign(**{HUMIDITY_GAP: humidity_gap(weather)})
    return {**tables, "weather": weather}


def batch_expectations(batch: Batch) -> tuple[Expectation, ...]:
    """What one delivered week must be like. The span of the batch is part of it."""
    hours = (batch.end - batch.start).total_seconds() / 3600
    flights, weather = "flights", "weather"
    weather_columns = [*WEATHER_TABLE.names, HUMIDITY_GAP]
    return (
        Expectation("flights have exactly the agreed columns", flights, "columns_exactly", {"columns": list(FLIGHTS.names)}),
        Expectation("a week holds 3,000 to 10,000 flights", flights, "row_count", {"low": 3000, "high": 10_000}),
        Expectation("every flight is there once", flights, "unique", {"columns": ["flight_id"]}),
        Expectation(
            "flights belong to the batch's week",
            flights,
            "between",
            {"column": "scheduled_departure", "low": batch.start, "high": batch.end},
        ),
        Expectation("flights leave from EWR, JFK or LGA", flights, "in_set", {"column": "origin", "values": list(ORIGINS)}),
        Expectation("carrier is known", flights, "not_null", {"column": "carrier"}),
        Expectation("destination is known", flights, "not_null", {"column": "destination"}),
        Expectation("tail number is known for 90 %", flights, "not_null", {"column": "tail_number"}, mostly=0.9),
        Expectation("distance is between 10 and 5,200 miles", flights, "between", {"column": "distance_miles", "low": 10, "high": 5200}),
        Expectation(
            "mean distance is that of New York's network in miles",
            flights,
            "mean_between",
            {"column": "distance_miles", "low": 900, "high": 1200},
        ),
        Expectation(
            "departure delay is between -90 and 2,000 min", flights, "between", {"column": "departure_delay_min", "low": -90, "high": 2000}
        ),
        Expectation(
            "arrival delay is between -150 and 2,000 min", flights, "between", {"column": "arrival_delay_min", "low": -150, "high": 2000}
        ),
        Expectation("four of five flights arrive", flights, "not_null", {"column": "arrival_delay_min"}, mostly=0.8),
        Expectation("flights arrive after they departed", flights, "pair_greater", {"a": "arrived_at", "b": "departed_at"}),
        Expectation("weather has exactly the agreed columns", weather, "columns_exactly", {"columns": weather_columns}),
        Expectation("weather is hourly at three airports", weather, "row_count", {"low": int(2.4 * hours), "high": int(3 * hours) + 3}),
        Expectation("an airport has one observation an hour", weather, "unique", {"columns": ["origin", "observed_at"]}),
        Expectation("weather is of the three origins", weather, "in_set", {"column": "origin", "values": list(ORIGINS)}),
        Expectation("temperature is between -30 and 115 °F", weather, "between", {"column": "temperature_f", "low": -30, "high": 115}),
        Expectation("temperature is mostly known", weather, "not_null", {"column": "temperature_f"}, mostly=0.95),
        Expectation("humidity is between 0 and 100 %", weather, "between", {"column": "humidity_pct", "low": 0, "high": 100}),
        Expectation(
            "wind is between 0 and 120 mph, one sensor error in 200 apart",
            weather,
            "between",
            {"column": "wind_speed_mph", "low": 0, "high": 120},
            mostly=0.995,
        ),
        Expectation(
            "humidity fits temperature and dew point in °F",
            weather,
            "mean_between",
            {"column": HUMIDITY_GAP, "low": 0, "high": HUMIDITY_GAP_LIMIT},
        ),
        Expectation("pressure is mostly known", weather, "not_null", {"column": "pressure_mb"}, mostly=0.5, blocking=False),
    )


def window_expectations() -> tuple[Expectation, ...]:
    """What the answered questions of one week must be like, features as the model saw them."""
    served = "served"

    def known(column: str, mostly: float) -> Expectation:
        return Expectation(f"{column} is known for {mostly:.0%} of the flights", served, "not_null", {"column": column}, mostly=mostly)

    return (
        Expectation("flights leave from EWR, JFK or LGA", served, "in_set", {"column": "origin", "values": list(ORIGINS)}),
        Expectation(
            "mean distance is that of New York's network in miles",
            served,
            "mean_between",
            {"column": "distance_miles", "low": 900, "high": 1200},
        ),
        known("temperature_f", 0.9),
        known("humidity_pct", 0.9),
        known("seats", 0.7),
        known("origin_delay_3h_min", 0.85),
        known("destination_delay_6h_min", 0.6),
        Expectation("temperature is between -30 and 115 °F", served, "between", {"column": "temperature_f", "low": -30, "high": 115}),
        Expectation("wind is between 0 and 120 mph", served, "between", {"column": "wind_speed_mph", "low": 0, "high": 120}),
        Expectation(
            "humidity fits temperature and dew point in °F",
            served,
            "mean_between",
            {"column": HUMIDITY_GAP, "low": 0, "high": HUMIDITY_GAP_LIMIT},
        ),
    )
