"""From what is known at the prediction moment to the model's features. The one transform, to train and to serve.

The two engines that look up what is known (`offline.py` for tables, `online.py` for events) both end in `features_of`.
"""

from datetime import datetime, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from mlops_lab.features import Feature, Kind, Value

ASKED_BEFORE_DEPARTURE = timedelta(hours=1)
"""The question is asked one hour before scheduled departure: what happens later is unknown."""

DEPARTURES_WINDOW_S = 3 * 3600
ARRIVALS_WINDOW_S = 6 * 3600
WEATHER_MAX_AGE_S = 6 * 3600
AIRCRAFT_MAX_AGE_S = 24 * 3600

WEATHER = (
    "temperature_f",
    "dew_point_f",
    "humidity_pct",
    "wind_direction_deg",
    "wind_speed_mph",
    "wind_gust_mph",
    "precipitation_in",
    "pressure_mb",
    "visibility_miles",
)

FEATURES: tuple[Feature, ...] = (
    Feature("carrier", Kind.CATEGORY, "IATA code", "airline"),
    Feature("origin", Kind.CATEGORY, "IATA code", "airport of departure: EWR, JFK or LGA"),
    Feature("destination", Kind.CATEGORY, "IATA code", "airport of arrival"),
    Feature("minute_of_day", Kind.NUMBER, "min, 0 to 1439", "scheduled departure, New York wall-clock"),
    Feature("weekday", Kind.NUMBER, "0 Monday to 6", "scheduled departure, New York calendar"),
    Feature("distance_miles", Kind.NUMBER, "mi", "great-circle distance of the route"),
    Feature("seats", Kind.NUMBER, "count", "seats of the aircraft"),
    Feature("aircraft_age_years", Kind.NUMBER, "a", "calendar years since the aircraft was built"),
    Feature("temperature_f", Kind.NUMBER, "°F", "last observation at the origin, less than 6 h old"),
    Feature("dew_point_f", Kind.NUMBER, "°F", "the same observation"),
    Feature("humidity_pct", Kind.NUMBER, "%", "the same observation"),
    Feature("wind_direction_deg", Kind.NUMBER, "°", "the same observation"),
    Feature("wind_speed_mph", Kind.NUMBER, "mi/h", "the same observation"),
    Feature("wind_gust_mph", Kind.NUMBER, "mi/h", "the same observation"),
    Feature("precipitation_in", Kind.NUMBER, "in", "the same observation, over the hour"),
    Feature("pressure_mb", Kind.NUMBER, "mbar", "the same observation"),
    Feature("visibility_miles", Kind.NUMBER, "mi", "the same observation"),
    Feature("origin_delay_3h_min", Kind.NUMBER, "min", "mean departure delay at the origin over the last 3 h"),
    Feature("carrier_delay_3h_min", Kind.NUMBER, "min", "the same, of this carrier only"),
    Feature("destination_delay_6h_min", Kind.NUMBER, "min", "mean arrival delay into the destination over the last 6 h"),
    Feature("aircraft_delay_min", Kind.NUMBER, "min", "last known delay of this aircraft, less than 24 h old"),
)

_NEW_YORK = ZoneInfo("America/New_York")
_NO_WEATHER: tuple[float | None, ...] = (None,) * len(WEATHER)


class Mean(NamedTuple):
    """The components of a mean, so that the arithmetic is finished at the moment of reading."""

    total: int
    rows: int

    def value(self) -> float | None:
        return self.total / self.rows if self.rows else None


class Known(NamedTuple):
    """What is known of a flight at its prediction moment, apart from its own schedule."""

    seats: float | None
    built: float | None
    weather: tuple[float | None, ...] | None
    origin: Mean
    carrier: Mean
    destination: Mean
    aircraft_delay: int | None


@lru_cache(maxsize=4096)
def _in_new_york(at: datetime) -> tuple[float, float, int]:
    """Minute of the day, weekday and year by the wall-clock of New York. Many flights are scheduled for the same minute."""
    local = at.astimezone(_NEW_YORK)
    return float(local.hour * 60 + local.minute), float(local.weekday()), local.year


def features_of(
    scheduled_departure: datetime, carrier: str, origin: str, destination: str, distance_miles: float | None, known: Known
) -> tuple[Value, ...]:
    """One row of features, in the order of `FEATURES`. None means unknown; the model has learned what that is worth."""
    minute_of_day, weekday, year = _in_new_york(scheduled_departure)
    return (
        carrier,
        origin,
        destination,
        minute_of_day,
        weekday,
        distance_miles,
        known.seats,
        None if known.built is None else year - known.built,
        *(known.weather or _NO_WEATHER),
        known.origin.value(),
        known.carrier.value(),
        known.destination.value(),
        None if known.aircraft_delay is None else float(known.aircraft_delay),
    )
