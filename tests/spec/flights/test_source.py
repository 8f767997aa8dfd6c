"""The source gives the real year, whole and in UTC, week by week, and plays it again behind its end."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from flight_builders import a_flight, a_year, observed
from mlops_lab.data.snapshot import Batch
from mlops_lab.errors import SourceMissing
from mlops_lab.flights.fetch import FILES
from mlops_lab.flights.source import FIRST_WEEK, LAST_WEEK, ZONES_MISSING, Year, continued, load, weeks, weeks_of_month


def test_all_flights_are_there_and_those_that_never_arrived_are_kept_without_label(year: Year) -> None:
    flights = year.flights

    assert len(flights) == 336_776
    assert flights["flight_id"].is_unique
    assert flights["scheduled_departure"].is_monotonic_increasing
    assert round(flights["arrival_delay_min"].isna().mean(), 3) == 0.028
    assert (flights["arrived_at"].isna() == flights["arrival_delay_min"].isna()).all()


def test_four_destinations_without_a_time_zone_in_the_package_have_one_here(year: Year, flight_data: Path) -> None:
    listed = set(pd.read_csv(flight_data / "airports.csv", usecols=["faa"])["faa"])
    lost = year.flights[~year.flights["destination"].isin(listed)]

    assert set(lost["destination"]) == set(ZONES_MISSING)
    assert len(lost) == 7_602
    assert lost["arrived_at"].notna().mean() > 0.9


def test_flights_arrive_after_they_departed_by_about_the_time_in_the_air(year: Year, flight_data: Path) -> None:
    """The package tells the air time apart from both clocks: a wrong zone of any of 105 destinations would be off by an hour."""
    raw = pd.read_csv(flight_data / "flights.csv", usecols=["time_hour", "minute", "carrier", "flight", "origin", "air_time"])
    at = pd.to_datetime(raw["time_hour"], utc=True) + pd.to_timedelta(raw["minute"], unit="min")
    raw["scheduled_departure"] = at.astype("datetime64[us, UTC]")
    flights = year.flights.merge(raw, on=["scheduled_departure", "carrier", "flight", "origin"], how="left", validate="1:1")
    taxiing = (flights["arrived_at"] - flights["departed_at"]).dt.total_seconds() / 60 - flights["air_time"]
    by_destination = taxiing.groupby(flights["destination"]).median().dropna()

    assert ((flights["arrived_at"] > flights["departed_at"]) | flights["arrived_at"].isna()).all()
    assert by_destination.between(5, 45).all(), by_destination[~by_destination.between(5, 45)]


def test_times_are_utc_to_the_microsecond(year: Year) -> None:
    for table in (year.flights, year.weather):
        moments = table.select_dtypes("datetimetz")
        assert len(moments.columns) >= 1
        assert all(str(kind) == "datetime64[us, UTC]" for kind in moments.dtypes)


def test_an_airport_has_one_observation_an_hour(year: Year) -> None:
    assert not year.weather.duplicated(["origin", "observed_at"]).any()
    assert set(year.weather["origin"]) == {"EWR", "JFK", "LGA"}


@pytest.mark.parametrize("lost", [["flights.csv"], ["weather.csv", "airports.csv"], list(FILES)])
def test_a_missing_file_is_named_with_what_to_do(tmp_path: Path, lost: list[str]) -> None:
    for name in set(FILES) - set(lost):
        (tmp_path / name).touch()

    with pytest.raises(SourceMissing, match="make install") as refused:
        load(tmp_path)
    assert all(name in refused.value.what for name in lost)


def test_a_destination_without_a_known_zone_is_refused_by_name(tmp_path: Path) -> None:
    row = "2013,7,1,900,0,1000,0,UA,1,N1,EWR,XYZ,100,0,2013-07-01T13:00:00Z"
    header = "year,month,day,sched_dep_time,dep_delay,sched_arr_time,arr_delay,carrier,flight,tailnum,origin,dest,distance,minute,time_hour"
    (tmp_path / "flights.csv").write_text(f"{header}\n{row}\n")
    (tmp_path / "airports.csv").write_text("faa,tzone\nORD,America/Chicago\n")
    for name in ("weather.csv", "planes.csv"):
        (tmp_path / name).touch()

    with pytest.raises(SourceMissing, match="XYZ"):
        load(tmp_path)


def test_every_flight_and_observation_of_the_52_weeks_is_in_one_batch(year: Year, batches: list[Batch]) -> None:
    """A batch is [Monday, Monday) in UTC, so midnight belongs to the week that begins."""
    first, last = FIRST_WEEK.start, LAST_WEEK.end
    flights, weather = year.flights, year.weather

    assert len(batches) == 52
    for table, moments in (("flights", flights["scheduled_departure"]), ("weather", weather["observed_at"])):
        assert sum(batch.rows[table] for batch in batches) == ((moments >= first) & (moments < last)).sum()
    for batch, week in zip(batches, weeks(FIRST_WEEK, LAST_WEEK), strict=True):
        for table, moment in (("flights", "scheduled_departure"), ("weather", "observed_at")):
            assert batch.tables[table][moment].between(week.start, week.end, inclusive="left").all()
        assert (batch.name, batch.start, batch.end) == (week.id, week.start, week.end)


def test_the_months_share_the_weeks_without_rest() -> None:
    by_month = [weeks_of_month(f"2013-{month:02d}") for month in range(1, 13)]

    assert [week for month in by_month for week in month] == weeks(FIRST_WEEK, LAST_WEEK)
    assert {len(month) for month in by_month} == {4, 5}


@pytest.mark.parametrize("month", ["2013-13", "2013-00", "2012-05", "2014-01", "2013-1", "2013-01-01", "2013-01\n", "", "July"])
def test_a_month_that_is_not_in_the_data_is_refused(month: str) -> None:
    with pytest.raises(SourceMissing, match="2013-01 to 2013-12"):
        weeks_of_month(month)


def small(year: Year) -> Year:
    """Every fortieth flight and all the weather: enough to go on with."""
    return replace(year, flights=year.flights.iloc[::40].reset_index(drop=True))


def test_within_the_year_nothing_is_added(year: Year) -> None:
    assert continued(year, datetime(2013, 12, 30, tzinfo=UTC)) is year


@pytest.mark.parametrize(("until", "years"), [(datetime(2014, 1, 20, tzinfo=UTC), 1), (datetime(2015, 3, 1, tzinfo=UTC), 2)])
def test_behind_its_end_the_year_goes_on_without_overlap(year: Year, until: datetime, years: int) -> None:
    """Flight ids stay unique, time goes forward, and both tables reach the moment."""
    longer = continued(small(year), until)
    flights, weather = longer.flights, longer.weather

    assert flights["flight_id"].is_unique
    assert flights["scheduled_departure"].is_monotonic_increasing
    assert weather["observed_at"].is_monotonic_increasing
    assert not weather.duplicated(["origin", "observed_at"]).any()
    assert flights["scheduled_departure"].iloc[-1] >= until
    assert flights["scheduled_departure"].diff().max() < timedelta(days=1)
    assert (flights["flight_id"].str.slice(0, 14) == flights["scheduled_departure"].dt.strftime("%Y%m%dT%H%MZ")).all()


def test_the_last_minute_of_the_year_is_not_played_twice() -> None:
    first = datetime(2013, 1, 1, 12, tzinfo=UTC)
    last = first + timedelta(weeks=52)
    weather = [observed(first, 30.0), observed(last, 40.0)]
    year = a_year([a_flight("a", scheduled_departure=first), a_flight("b", scheduled_departure=last)], weather)
    longer = continued(year, last + timedelta(days=1))

    assert list(longer.flights["scheduled_departure"]) == [first, last, last + timedelta(weeks=52)]
    assert list(longer.weather["temperature_f"]) == [30.0, 40.0, 40.0]


def test_weekdays_and_delays_stay_when_a_year_is_played_again(year: Year) -> None:
    before = small(year).flights
    again = continued(small(year), datetime(2014, 6, 1, tzinfo=UTC)).flights.iloc[len(before) :]
    played = before.assign(scheduled_departure=before["scheduled_departure"] + pd.Timedelta(weeks=52))
    played = played[played["scheduled_departure"] > before["scheduled_departure"].iloc[-1]]

    weekdays = (played["scheduled_departure"] - pd.Timedelta(weeks=52)).dt.weekday

    assert (again["scheduled_departure"].to_numpy() == played["scheduled_departure"].to_numpy()).all()
    assert (again["scheduled_departure"].dt.weekday.to_numpy() == weekdays.to_numpy()).all()
    pd.testing.assert_series_equal(again["arrival_delay_min"].reset_index(drop=True), played["arrival_delay_min"].reset_index(drop=True))
