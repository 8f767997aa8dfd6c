"""Rows of the online table: facts in any order give the same bytes, and features read from them are those of the state in process."""

import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import orjson

from mlops_lab.features.rows import Progress, Reading, RowRef
from mlops_lab.flights.online_usecase import FlightsOnline
from mlops_lab.flights.request import ask
from mlops_lab.flights.source import Year
from mlops_lab.flights.timeline import Timeline

MONDAY = datetime(2013, 4, 1, tzinfo=UTC)


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
