"""The year 2013 of flights from New York City, as tables with UTC times, cut into weekly batches.

Times in the package: `time_hour` is the scheduled hour in UTC, `sched_dep_time` and `sched_arr_time` are local wall-clock times.
Delays are whole minutes. 2.8 % of the flights never arrive where they should (cancelled, diverted): they have no label and are kept.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from mlops_lab.data.snapshot import Batch
from mlops_lab.errors import SourceMissing
from mlops_lab.monitoring.window import Window

# Four destinations have no row in airports.csv, so no time zone there. Three are in Puerto Rico, one in the Virgin Islands.
ZONES_MISSING = {
    "BQN": "America/Puerto_Rico",
    "PSE": "America/Puerto_Rico",
    "SJU": "America/Puerto_Rico",
    "STT": "America/St_Thomas",
}
FIRST_WEEK = Window.of_week("2013-W01")
LAST_WEEK = Window.of_week("2013-W52")
_MONTH = re.compile(r"2013-(0[1-9]|1[0-2])")


@dataclass(frozen=True)
class Year:
    """All of 2013.

    Attributes:
        flights: One row per scheduled flight, in order of schedule; columns as in `schema.FLIGHT_COLUMNS`.
        weather: Hourly observations by airport; columns as in `schema.WEATHER_COLUMNS`.
        aircraft: tail_number, seats, built (year, may be missing).
    """

    flights: pd.DataFrame
    weather: pd.DataFrame
    aircraft: pd.DataFrame

    def batch(self, window: Window) -> Batch:
        """What the airline would deliver for one week: its scheduled flights with outcomes, and its weather."""
        flights = self.flights[_within(self.flights["scheduled_departure"], window.start, window.end)]
        weather = self.weather[_within(self.weather["observed_at"], window.start, window.end)]
        tables = {"flights": flights.reset_index(drop=True), "weather": weather.reset_index(drop=True)}
        return Batch(name=window.id, start=window.start, end=window.end, tables=tables)


def _within(moments: pd.Series, start: datetime, end: datetime) -> pd.Series:
    return (moments >= start) & (moments < end)


def weeks(first: Window, last: Window) -> list[Window]:
    """All weeks from one to another, both included."""
    count = (last.start - first.start) // timedelta(weeks=1)
    return [first.before(-i) for i in range(count + 1)]


def weeks_of_month(month: str) -> list[Window]:
    """The weeks whose Thursday lies in a month such as `2013-02` (as ISO counts weeks).

    Raises:
        SourceMissing: There is no such month in the data.
    """
    if not _MONTH.fullmatch(month):
        raise SourceMissing(f"There are no flights for '{month}'.", "choose a month from 2013-01 to 2013-12.")
    return [w for w in weeks(FIRST_WEEK, LAST_WEEK) if (w.start + timedelta(days=3)).strftime("%Y-%m") == month]


@lru_cache(maxsize=1)
def load(folder: Path) -> Year:
    """Read the year.

    Raises:
        SourceMissing: A file is not there; nothing is read.
    """
    missing = [name for name in ("flights.csv", "weather.csv", "planes.csv", "airports.csv") if not (folder / name).is_file()]
    if missing:
        raise SourceMissing(f"{folder} has no {', '.join(missing)}.", "run `make install`: it downloads and checks the flight data.")
    return Year(_flights(folder), _weather(folder), aircraft(folder))


def _flights(folder: Path) -> pd.DataFrame:
    columns = ["year", "month", "day", "sched_dep_time", "dep_delay", "sched_arr_time", "arr_delay"]
    columns += ["carrier", "flight", "tailnum", "origin", "dest", "distance", "minute", "time_hour"]
    raw = pd.read_csv(folder / "flights.csv", usecols=columns, keep_default_na=False, na_values={c: ["NA", ""] for c in columns})
    scheduled = pd.to_datetime(raw["time_hour"], utc=True) + pd.to_timedelta(raw["minute"], unit="min")
    arrival = _scheduled_arrival(raw, scheduled, folder)
    departed = scheduled + pd.to_timedelta(raw["dep_delay"], unit="min")
    arrived = arrival + pd.to_timedelta(raw["arr_delay"], unit="min")
    table = pd.DataFrame(
        {
            "flight_id": scheduled.dt.strftime("%Y%m%dT%H%MZ-") + raw["carrier"] + raw["flight"].astype(str) + "-" + raw["origin"],
            "scheduled_departure": scheduled.astype("datetime64[us, UTC]"),
            "carrier": raw["carrier"],
            "flight": raw["flight"].astype("int64"),
            "tail_number": raw["tailnum"],
            "origin": raw["origin"],
            "destination": raw["dest"],
            "distance_miles": raw["distance"].astype("float64"),
            "departed_at": departed.astype("datetime64[us, UTC]"),
            "departure_delay_min": raw["dep_delay"].astype("float64"),
            "arrived_at": arrived.astype("datetime64[us, UTC]"),
            "arrival_delay_min": raw["arr_delay"].astype("float64"),
        }
    )
    return table.sort_values(["scheduled_departure", "flight_id"], kind="stable", ignore_index=True)


def _scheduled_arrival(raw: pd.DataFrame, departure: pd.Series, folder: Path) -> pd.Series:
    """The scheduled arrival in UTC: the first time the destination's clock shows it after departure."""
    airports = pd.read_csv(folder / "airports.csv", usecols=["faa", "tzone"])
    zones = dict(zip(airports["faa"], airports["tzone"], strict=True)) | ZONES_MISSING
    minutes = (raw["sched_arr_time"] // 100) * 60 + raw["sched_arr_time"] % 100
    arrival = pd.Series(pd.NaT, index=raw.index, dtype="datetime64[ns, UTC]")
    for zone, rows in raw["dest"].map(zones).groupby(raw["dest"].map(zones)).groups.items():
        local = departure.loc[rows].dt.tz_convert(str(zone))
        clock = local.dt.tz_localize(None).dt.normalize() + pd.to_timedelta(minutes.loc[rows], unit="min")
        clock += pd.to_timedelta((clock <= local.dt.tz_localize(None)).astype("int64"), unit="D")
        ambiguous = np.zeros(len(clock), dtype=bool)
        arrival.loc[rows] = clock.dt.tz_localize(str(zone), ambiguous=ambiguous, nonexistent="shift_forward").dt.tz_convert(UTC)
    if arrival.isna().any():
        lost = sorted(raw.loc[arrival.isna(), "dest"].unique())
        raise SourceMissing(f"No time zone is known for {', '.join(lost)}.", "add it to ZONES_MISSING in flights/source.py.")
    return arrival


def _weather(folder: Path) -> pd.DataFrame:
    raw = pd.read_csv(folder / "weather.csv")
    table = pd.DataFrame(
        {
            "origin": raw["origin"],
            "observed_at": pd.to_datetime(raw["time_hour"], utc=True).astype("datetime64[us, UTC]"),
            "temperature_f": raw["temp"],
            "dew_point_f": raw["dewp"],
            "humidity_pct": raw["humid"],
            "wind_direction_deg": raw["wind_dir"].astype("float64"),
            "wind_speed_mph": raw["wind_speed"],
            "wind_gust_mph": raw["wind_gust"],
            "precipitation_in": raw["precip"],
            "pressure_mb": raw["pressure"],
            "visibility_miles": raw["visib"],
        }
    )
    # The clock change in November gives an airport the same hour twice: the first observation stands.
    table = table.drop_duplicates(["origin", "observed_at"])
    return table.sort_values(["observed_at", "origin"], kind="stable", ignore_index=True)


def aircraft(folder: Path) -> pd.DataFrame:
    """The register of aircraft: tail_number, seats, built (year, may be missing)."""
    raw = pd.read_csv(folder / "planes.csv", usecols=["tailnum", "year", "seats"])
    table = pd.DataFrame({"tail_number": raw["tailnum"], "seats": raw["seats"].astype("float64"), "built": raw["year"].astype("float64")})
    return table.sort_values("tail_number", ignore_index=True)


def redated(year: Year, times: int) -> Year:
    """The year again, 52 weeks later for each time: weekdays stay, flight ids follow their dates."""
    if times == 0:
        return year
    shift = pd.Timedelta(weeks=52 * times)
    flights = year.flights.copy()
    for column in ("scheduled_departure", "departed_at", "arrived_at"):
        flights[column] = flights[column] + shift
    flights["flight_id"] = flights["scheduled_departure"].dt.strftime("%Y%m%dT%H%MZ") + flights["flight_id"].str.slice(14)
    return Year(flights, year.weather.assign(observed_at=year.weather["observed_at"] + shift), year.aircraft)


def continued(year: Year, until: datetime) -> Year:
    """The year as it goes on up to a moment: behind its end it is played again, redated, so that a platform can be lived with for long."""
    times = max(0, -(-(until - year.flights["scheduled_departure"].iloc[-1].to_pydatetime()) // timedelta(weeks=52)))
    if times == 0:
        return year
    before, after = redated(year, times - 1), redated(year, times)
    flights = after.flights[after.flights["scheduled_departure"] > before.flights["scheduled_departure"].iloc[-1]]
    weather = after.weather[after.weather["observed_at"] > before.weather["observed_at"].iloc[-1]]
    return Year(
        pd.concat([before.flights, flights], ignore_index=True), pd.concat([before.weather, weather], ignore_index=True), year.aircraft
    )
