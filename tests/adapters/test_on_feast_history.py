"""Training sets out of Feast: its point-in-time join gives what the platform's own does, and what was served; nothing later leaks in."""

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from feast_builders import SAID, a_store
from mlops_lab.errors import NotEnoughData, UnknownName
from mlops_lab.events import Message
from mlops_lab.features import Ask
from mlops_lab.features.history import history
from mlops_lab.features.in_memory import MemoryRows
from mlops_lab.features.on_demand import columns_of
from mlops_lab.features.on_feast_history import historical, write_history
from mlops_lab.features.on_feast_services import VersionService, register, services
from mlops_lab.flights import messages
from mlops_lab.flights.offline import history_features
from mlops_lab.flights.online_usecase import FlightsOnline
from mlops_lab.flights.source import Year
from mlops_lab.flights.timeline import Timeline
from mlops_lab.flights.transform import ASKED_BEFORE_DEPARTURE, FEATURES

START, FROM, UNTIL = (datetime(2013, 4, day, tzinfo=UTC) for day in (1, 3, 4))
NAMES = [feature.name for feature in FEATURES]


@pytest.fixture(scope="module")
def facts(year: Year) -> list[Message]:
    """Three days of facts, and the register of aircraft before them."""
    steps = Timeline(year, seed=7).steps(START, UNTIL, questions=False)
    return [*messages.aircraft(year.aircraft, START), *(fact for step in steps for fact in step.facts)]


@pytest.fixture(scope="module")
def flights(year: Year) -> pd.DataFrame:
    """More than 900 flights whose moment lies in the last of the three days."""
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


def through_feast(folder: Path, facts: Sequence[Message], asks: Sequence[Ask]) -> pd.DataFrame:
    store = a_store(folder)
    write_history(store, history(facts, FlightsOnline().row_state))
    return historical(store, asks)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, facts: list[Message], asks: list[Ask]) -> pd.DataFrame:
    return through_feast(tmp_path_factory.mktemp("feast"), facts, asks)


def test_feasts_join_gives_what_our_own_gives(found: pd.DataFrame, year: Year, flights: pd.DataFrame) -> None:
    assert len(flights) > 800
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
    """Every fact behind a moment says something else, some are gone, others are new: what is read at the moment stays."""
    moment = sorted(ask.moment for ask in asks)[len(asks) // 2]
    chance = random.Random(7)
    poisoned = []
    for fact in facts:
        if fact.at <= moment:
            poisoned.append(fact)
        elif "delay_min" in fact.data:
            lie = replace(fact, data={**fact.data, "delay_min": chance.randint(-60, 900)})
            poisoned += chance.choice(([], [lie], [lie, replace(lie, id=f"{lie.id}-new", data={**lie.data, "flight_id": "another"})]))
    before = [place for place, ask in enumerate(asks) if ask.moment <= moment]
    assert len(before) > 300
    again = through_feast(tmp_path, poisoned, [asks[place] for place in before])
    assert_frame_equal(again, found.iloc[before].reset_index(drop=True), check_exact=True)
    later = [place for place, ask in enumerate(asks) if ask.moment > moment + timedelta(hours=2)]
    lied = through_feast(tmp_path / "later", poisoned, [asks[place] for place in later])
    assert not lied.equals(found.iloc[later].reset_index(drop=True))  # the poison is one


def test_the_order_of_facts_does_not_matter(found: pd.DataFrame, facts: list[Message], asks: list[Ask], tmp_path: Path) -> None:
    shuffled = random.Random(7).sample(facts, len(facts))
    some = random.Random(8).sample(range(len(asks)), 200)
    again = through_feast(tmp_path, [*shuffled, *shuffled[:500]], [asks[place] for place in some])
    assert_frame_equal(again, found.iloc[some].reset_index(drop=True), check_exact=True)


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


def test_feast_answers_through_a_version_s_service(tmp_path: Path, facts: list[Message], asks: list[Ask]) -> None:
    use_case, store = FlightsOnline(), a_store(tmp_path)
    state = use_case.row_state()
    state.apply(facts)
    rows = MemoryRows()
    rows.held.update(state.rows())
    store.write(state.rows(), SAID)
    register(store, {2: (["origin_delay_3h_min", "aircraft_delay_min"], "bb")})
    last = sorted(asks, key=lambda ask: ask.moment)[-20:]
    feast = store.opened()
    columns = columns_of(use_case, last)
    entity_rows = [{name: values[place] for name, values in columns.items()} for place in range(len(last))]
    told = feast.get_online_features(feast.get_feature_service("flight-delay-v2"), entity_rows).to_dict()
    ours = [dict(zip(NAMES, row.values, strict=True)) for row in use_case.from_rows(rows).read_many(last)]
    for name in ("origin_delay_3h_min", "aircraft_delay_min"):
        assert told[name] == [each[name] for each in ours]
