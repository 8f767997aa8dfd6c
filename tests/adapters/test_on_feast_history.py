"""Training sets out of Feast: its point-in-time join gives what the platform's own does, and what was served; nothing later leaks in."""

import random
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from feast_builders import SAID, a_store, answers_of_feast
from mlops_lab.errors import NotEnoughData, UnknownName
from mlops_lab.events import Message
from mlops_lab.features import Ask
from mlops_lab.features.feast_layout import Layout
from mlops_lab.features.history import history
from mlops_lab.features.in_memory import MemoryRows
from mlops_lab.features.on_feast import FeastStore
from mlops_lab.features.on_feast_history import historical, write_history
from mlops_lab.features.on_feast_services import VersionService, register, services
from mlops_lab.features.on_sqlite import SqliteRows
from mlops_lab.flights import messages
from mlops_lab.flights.facts import LISTED
from mlops_lab.flights.offline import history_features
from mlops_lab.flights.online_usecase import FlightsOnline
from mlops_lab.flights.rows import VIEWS
from mlops_lab.flights.source import Year
from mlops_lab.flights.timeline import Timeline
from mlops_lab.flights.transform import ASKED_BEFORE_DEPARTURE, FEATURES

START, FROM, UNTIL = datetime(2013, 4, 1, tzinfo=UTC), datetime(2013, 4, 2, 18, tzinfo=UTC), datetime(2013, 4, 4, tzinfo=UTC)
NAMES = [feature.name for feature in FEATURES]
FROM_FACTS = ("origin_delay_3h_min", "carrier_delay_3h_min", "destination_delay_6h_min", "aircraft_delay_min", "temperature_f")


@pytest.fixture(scope="module")
def facts(year: Year) -> list[Message]:
    """Three days of facts, and the register of aircraft before them."""
    steps = Timeline(year, seed=7).steps(START, UNTIL, questions=False)
    return [*messages.aircraft(year.aircraft, START), *(fact for step in steps for fact in step.facts)]


@pytest.fixture(scope="module")
def flights(year: Year) -> pd.DataFrame:
    """The flights whose moment lies in the last thirty hours of the three days."""
    moments = year.flights["scheduled_departure"] - ASKED_BEFORE_DEPARTURE
    return year.flights[(moments > FROM) & (moments <= UNTIL)].reset_index(drop=True)


@pytest.fixture(scope="module")
def asks(flights: pd.DataFrame) -> list[Ask]:
    return [
        Ask(
            flight.flight_id,
            flight.scheduled_departure.to_pydatetime() - ASKED_BEFORE_DEPARTURE,
            {
                "scheduled_departure": flight.scheduled_departure.to_pydatetime(),
                "carrier": flight.carrier,
                "origin": flight.origin,
                "destination": flight.destination,
                "tail_number": flight.tail_number if isinstance(flight.tail_number, str) else None,
                "distance_miles": flight.distance_miles,
            },
        )
        for flight in flights.itertuples()
    ]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, facts: list[Message]) -> FeastStore:
    """With the history of the three days."""
    store = a_store(tmp_path_factory.mktemp("feast"))
    write_history(store, history(facts, FlightsOnline().row_state))
    return store


@pytest.fixture(scope="module")
def found(store: FeastStore, asks: list[Ask]) -> pd.DataFrame:
    return historical(store, asks)


def through_feast(folder: Path, facts: Sequence[Message], asks: Sequence[Ask]) -> pd.DataFrame:
    store = a_store(folder)
    write_history(store, history(facts, FlightsOnline().row_state))
    return historical(store, asks)


def test_feasts_join_gives_what_our_own_gives(found: pd.DataFrame, year: Year, flights: pd.DataFrame) -> None:
    assert len(flights) > 1000
    near = year.flights["scheduled_departure"].between(START - timedelta(days=1), UNTIL + timedelta(days=2))
    known = year.flights[near & ((year.flights["departed_at"] > START) | year.flights["departed_at"].isna())]
    known = known.assign(arrived_at=known["arrived_at"].where(known["arrived_at"] > START))
    landed = year.flights[near & (year.flights["departed_at"] <= START) & (year.flights["arrived_at"] > START)]
    both = pd.concat([known, landed.assign(departed_at=pd.NaT, departure_delay_min=float("nan"))], ignore_index=True)
    weather = year.weather[year.weather["observed_at"] > START]
    own = history_features(both, weather, year.aircraft)
    own.index = pd.Index(both["flight_id"])
    assert_frame_equal(found, own.loc[flights["flight_id"]].reset_index(drop=True), check_exact=True)


def test_what_was_served_is_what_training_reads(found: pd.DataFrame, facts: list[Message], asks: list[Ask]) -> None:
    """Questions in order of time, each answered from rows that hold the facts up to its moment and none behind it."""
    use_case, store = FlightsOnline(), MemoryRows()
    state, online = use_case.row_state(), use_case.from_rows(store)
    waiting = sorted(facts, key=lambda fact: fact.at)
    at = 0
    served: dict[int, tuple[object, ...]] = {}
    for place, ask in sorted(enumerate(asks), key=lambda each: each[1].moment):
        upto = at
        while upto < len(waiting) and waiting[upto].at <= ask.moment:
            upto += 1
        state.apply(waiting[at:upto])
        store.held.update(state.changed())
        at = upto
        served[place] = online.read(ask).values
    table = pd.DataFrame([served[place] for place in range(len(asks))], columns=NAMES)
    assert_frame_equal(found, table.astype(found.dtypes.to_dict()), check_exact=True)


def test_nothing_that_happens_later_changes_a_training_set(
    found: pd.DataFrame, facts: list[Message], asks: list[Ask], tmp_path: Path
) -> None:
    """Every fact behind a moment says something else, some are gone, others are new: what is read up to the moment stays."""
    moment = sorted(ask.moment for ask in asks)[len(asks) // 2]
    chance = random.Random(7)
    poisoned = []
    for fact in facts:
        if fact.at <= moment:
            poisoned.append(fact)
        elif "delay_min" in fact.data:
            lie = replace(fact, data={**fact.data, "delay_min": chance.randint(-60, 900)})
            poisoned += chance.choice(([], [lie], [lie, replace(lie, id=f"{lie.id}-new", data={**lie.data, "flight_id": "another"})]))
        else:  # weather, or an aircraft that is listed anew
            poisoned += chance.choice(([], [replace(fact, data=dict.fromkeys(fact.data, float(chance.randint(0, 99))))]))
    listed = [fact for fact in facts if fact.type == LISTED]
    poisoned += [replace(fact, at=moment + timedelta(minutes=1), data={"seats": 1.0, "built": 1903.0}) for fact in listed]
    before = [place for place, ask in enumerate(asks) if ask.moment <= moment]
    assert len(before) > 300
    again = through_feast(tmp_path, poisoned, [asks[place] for place in before])
    assert_frame_equal(again, found.iloc[before].reset_index(drop=True), check_exact=True)
    later = [place for place, ask in enumerate(asks) if ask.moment > moment + timedelta(hours=2)]
    lied = through_feast(tmp_path / "later", poisoned, [asks[place] for place in later])
    true = found.iloc[later].reset_index(drop=True)
    for name in (*FROM_FACTS, "seats"):
        assert not lied[name].equals(true[name])  # the poison is one


def test_the_order_of_facts_does_not_matter(found: pd.DataFrame, facts: list[Message], asks: list[Ask], tmp_path: Path) -> None:
    shuffled = random.Random(7).sample(facts, len(facts))
    some = random.Random(8).sample(range(len(asks)), 200)
    again = through_feast(tmp_path, [*shuffled, *shuffled[:500]], [asks[place] for place in some])
    assert_frame_equal(again, found.iloc[some].reset_index(drop=True), check_exact=True)


def test_a_version_s_service_gives_the_features_that_it_reads_in_its_order(store: FeastStore, found: pd.DataFrame, asks: list[Ask]) -> None:
    wanted = ["aircraft_delay_min", "carrier", "origin_delay_3h_min"]
    (service,) = register(store, {7: (wanted, "digest")})
    assert_frame_equal(historical(store, asks[:300], service), found.loc[:299, wanted], check_exact=True)


def test_without_a_history_there_is_no_training_set(tmp_path: Path, asks: list[Ask]) -> None:
    with pytest.raises(NotEnoughData, match="lab features history"):
        historical(a_store(tmp_path), asks[:3])


def test_each_model_version_has_a_service_with_the_features_that_it_reads(tmp_path: Path) -> None:
    store = a_store(tmp_path)
    assert services(store) == []
    wanted = {1: (NAMES, "aa"), 2: (["origin_delay_3h_min", "carrier"], "bb")}
    found = register(store, wanted)
    assert found == [
        VersionService("flight-delay-v1", 1, tuple(NAMES), "aa"),
        VersionService("flight-delay-v2", 2, ("origin_delay_3h_min", "carrier"), "bb"),
    ]
    assert register(a_store(tmp_path), {2: wanted[2]}) == found
    with pytest.raises(UnknownName, match="did you mean 'carrier'"):
        register(store, {3: (["carier"], "cc")})
    assert services(store) == found


def test_feast_answers_through_a_service_what_the_reader_without_it_does(tmp_path: Path, facts: list[Message], asks: list[Ask]) -> None:
    """Three ways to the same rows: Feast's own, through the service of a version; the small reader; rows in memory."""
    use_case, store = FlightsOnline(), a_store(tmp_path)
    state = use_case.row_state()
    state.apply(facts)
    store.write(state.rows(), SAID)
    register(store, {2: (NAMES, "bb")})
    last = sorted(asks, key=lambda ask: ask.moment)[-100:]

    told = answers_of_feast(store, "flight-delay-v2", last)

    with closing(SqliteRows(tmp_path / "online.db", Layout(VIEWS), deadline_s=5)) as reader:
        assert told == [row.values for row in use_case.from_rows(reader).read_many(last)]
    memory = MemoryRows()
    memory.held.update(state.rows())
    assert told == [row.values for row in use_case.from_rows(memory).read_many(last)]
    known = [dict(zip(NAMES, values, strict=True)) for values in told]
    assert all(sum(row[name] is not None for row in known) > 20 for name in FROM_FACTS)
