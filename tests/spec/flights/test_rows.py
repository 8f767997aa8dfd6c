"""Rows of the online table: facts in any order give the same bytes, and features read from them are those of the state in process."""

import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest

from flight_builders import another_future, messages_of, span
from mlops_lab.events import Message
from mlops_lab.features import FeatureRow
from mlops_lab.features.rows import Progress, Reading, RowRef
from mlops_lab.flights.facts import LISTED
from mlops_lab.flights.online_usecase import FlightsOnline
from mlops_lab.flights.request import ask
from mlops_lab.flights.rows import BEHIND_S
from mlops_lab.flights.source import Year
from mlops_lab.flights.timeline import Timeline, question
from mlops_lab.flights.transform import FEATURES
from mlops_lab.flights.usecase import Flights

MONDAY = datetime(2013, 4, 1, tzinfo=UTC)
NAMES = [feature.name for feature in FEATURES]
ITEM = {
    "flight_id": "f",
    "scheduled_departure": MONDAY + timedelta(days=2),
    "carrier": "UA",
    "tail_number": "N14228",
    "origin": "EWR",
    "destination": "IAH",
}


class Held:
    """A reader over rows in a dictionary."""

    def __init__(self, rows: Mapping[RowRef, bytes]) -> None:
        self.held = dict(rows)

    def read(self, wanted: Sequence[RowRef]) -> Reading:
        return Reading([self.held.get(ref) for ref in wanted], None)

    def progress(self) -> Progress | None:
        return None


def test_features_from_rows_are_those_of_the_state_in_process(year: Year) -> None:
    use_case = FlightsOnline()
    state, rows, held = use_case.online(), use_case.row_state(), Held({})
    from_rows = use_case.from_rows(held)
    asked = 0
    for step in Timeline(year, seed=7).steps(MONDAY, MONDAY + timedelta(days=3)):
        state.apply(step.facts)
        rows.apply(step.facts)
        held.held.update(rows.changed())
        asks = [ask(orjson.loads(body) | {"scheduled_departure": step.at + timedelta(hours=1)}) for _, body in step.questions]
        assert from_rows.read_many(asks) == state.read_many(asks)
        asked += len(asks)
    assert asked > 2000
    assert held.held == rows.rows()


def test_a_moment_behind_what_a_row_covers_finds_nothing_and_never_another_mean(year: Year) -> None:
    """A row keeps the window of moments up to an hour behind its newest fact. Of an earlier moment's window it has a part only."""
    use_case = FlightsOnline()
    state, rows = use_case.online(), use_case.row_state()
    noon = MONDAY + timedelta(hours=17)
    steps = list(Timeline(year, seed=7).steps(MONDAY - timedelta(hours=30), noon))
    facts = [fact for step in steps for fact in step.facts]
    state.apply(facts)
    rows.apply(facts)
    from_rows = use_case.from_rows(Held(rows.rows()))
    items = [orjson.loads(body) for step in steps for _, body in step.questions][-200:]
    absent = dict.fromkeys(range(0, 12 * 3600, 1800), 0)
    for behind_s in absent:
        asks = [ask(item | {"scheduled_departure": noon + timedelta(hours=1, seconds=-behind_s)}) for item in items]
        for found, known in zip(from_rows.read_many(asks), state.read_many(asks), strict=True):
            gone = [name for name, value, real in zip(NAMES, found.values, known.values, strict=True) if value != real]
            assert all(found.values[NAMES.index(name)] is None for name in gone)
            absent[behind_s] += len(gone)
    assert not any(number for behind_s, number in absent.items() if behind_s <= 3600)
    assert absent[2 * 3600] > 0


@pytest.mark.parametrize("hours", [1, 12, 14, 17, 20])
def test_whatever_happens_after_the_moment_changes_nothing_that_is_read_at_it(year: Year, hours: int) -> None:
    """Rows hold facts of up to an hour behind the question: other delays, other weather, other flights, from the very next second on."""
    use_case, moment = FlightsOnline(), MONDAY + timedelta(hours=hours)
    world = span(year, MONDAY - timedelta(days=3), MONDAY + timedelta(days=1))
    wanted = world.flights[abs(world.flights["scheduled_departure"] - moment) < timedelta(hours=2)]
    asks = [ask(question(row) | {"scheduled_departure": moment + timedelta(hours=1)}) for row in wanted.itertuples(index=False)]

    def read(world: Year) -> Sequence[FeatureRow]:
        rows = use_case.row_state()
        rows.apply(one for one in messages_of(world) if one.at <= moment + timedelta(seconds=BEHIND_S))
        return use_case.from_rows(Held(rows.rows())).read_many(asks)

    as_it_was = read(world)
    assert len(asks) > 20
    assert any(row.values != as_it_was[0].values for row in as_it_was)
    for seed in range(3):
        assert read(another_future(world, moment, seed)) == as_it_was
    assert read(another_future(world, moment - timedelta(hours=1), 0)) != as_it_was  # what happens before it does


def test_what_is_no_row_counts_as_none(year: Year) -> None:
    use_case = FlightsOnline()
    rows = use_case.row_state()
    steps = list(Timeline(year, seed=7).steps(MONDAY, MONDAY + timedelta(hours=15)))
    rows.apply([fact for step in steps for fact in step.facts])
    asks = [ask(orjson.loads(body) | {"scheduled_departure": step.at + timedelta(hours=1)}) for step in steps for _, body in step.questions]
    none = use_case.from_rows(Held({})).read_many(asks)
    damages = (lambda row: row[:-1], lambda row: b"row9" + row[4:], lambda row: b"", lambda row: row[4:], lambda row: b"row1" + row[:1])

    for damage in damages:
        damaged = {ref: damage(row) for ref, row in rows.rows().items()}
        assert use_case.from_rows(Held(damaged)).read_many(asks) == none


def test_the_later_listing_of_an_aircraft_counts_whichever_came_first(year: Year) -> None:
    use_case = FlightsOnline()
    first = Message(LISTED, MONDAY, "N14228", {"seats": 149.0, "built": 1999.0})
    then = Message(LISTED, MONDAY + timedelta(days=1), "N14228", {"seats": None, "built": 1999.0})
    question = ask(ITEM)
    for order in ((first, then), (then, first)):
        state, rows = use_case.online(), use_case.row_state()
        state.apply(order)
        rows.apply(order)
        assert state.read(question).values[NAMES.index("seats")] is None
        assert use_case.from_rows(Held(rows.rows())).read_many([question]) == state.read_many([question])


def test_rows_are_a_function_of_the_set_of_facts(year: Year) -> None:
    steps = Timeline(year, seed=7).steps(MONDAY, MONDAY + timedelta(days=3), questions=False)
    facts = [fact for step in steps for fact in step.facts]
    in_order, shuffled = FlightsOnline().row_state(), FlightsOnline().row_state()
    in_order.apply(facts)
    disorder = facts + random.Random(7).sample(facts, len(facts) // 10)
    random.Random(8).shuffle(disorder)
    shuffled.apply(disorder)
    assert shuffled.rows() == in_order.rows()


def test_a_fact_that_came_before_changes_no_row(year: Year) -> None:
    steps = Timeline(year, seed=7).steps(MONDAY, MONDAY + timedelta(hours=15), questions=False)
    facts = [fact for step in steps for fact in step.facts]
    rows = FlightsOnline().row_state()
    rows.apply(facts)
    assert rows.changed()
    rows.apply(facts[-20:])
    assert rows.changed() == {}


def test_accepted_tables_give_the_facts_that_were_on_the_bus(year: Year, flight_data: Path) -> None:
    until = MONDAY + timedelta(days=2)
    published = [fact for step in Timeline(year, seed=7).steps(MONDAY, until, questions=False) for fact in step.facts]
    facts = list(Flights(flight_data).facts({"flights": year.flights, "weather": year.weather}, MONDAY, until))
    listed = [fact for fact in facts if fact.type == LISTED]
    assert len(listed) > 3000
    assert {fact.at for fact in listed} == {MONDAY}
    assert sorted((fact for fact in facts if fact.type != LISTED), key=lambda fact: fact.id) == sorted(published, key=lambda fact: fact.id)
