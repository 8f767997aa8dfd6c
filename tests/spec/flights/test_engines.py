"""Tables and events agree, in whatever order and however often the events come."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from flight_builders import MOMENT, NAMES, a_flight, a_year, answers_offline, answers_online, ask, departed, messages_of, online, same, span
from mlops_lab.clock import from_iso
from mlops_lab.events import Message
from mlops_lab.features import Value
from mlops_lab.flights import online as online_module
from mlops_lab.flights.online import FlightState
from mlops_lab.flights.source import Year
from mlops_lab.flights.timeline import Timeline

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)


@pytest.fixture(scope="module")
def eleven_days(year: Year) -> Year:
    """10,000 flights and the day and a half before them, over the clock change of March and a snow storm."""
    return span(year, datetime(2013, 3, 2, tzinfo=UTC), datetime(2013, 3, 14, 12, tzinfo=UTC))


@pytest.fixture(scope="module")
def expected(eleven_days: Year) -> dict[str, tuple[Value, ...]]:
    from_then = datetime(2013, 3, 3, 12, tzinfo=UTC)
    asked = eleven_days.flights["flight_id"][eleven_days.flights["scheduled_departure"] - HOUR > from_then]
    return answers_offline(eleven_days, list(asked))


def in_order(facts: list[Message], seed: int) -> list[Message]:
    return facts


def shuffled(facts: list[Message], seed: int) -> list[Message]:
    return [facts[at] for at in np.random.default_rng(seed).permutation(len(facts))]


def sometimes_twice(facts: list[Message], seed: int) -> list[Message]:
    """One in fifty comes again, somewhere."""
    again = np.flatnonzero(np.random.default_rng(seed).random(len(facts)) < 0.02)
    return shuffled([*facts, *(facts[at] for at in again)], seed)


@pytest.mark.parametrize(("arrival", "hours"), [(in_order, None), (shuffled, 12), (sometimes_twice, 12)])
def test_events_give_the_features_that_the_tables_give(
    eleven_days: Year, expected: dict[str, tuple[Value, ...]], arrival: Callable[[list[Message], int], list[Message]], hours: int | None
) -> None:
    """10,000 flights asked about in the course of eleven days, to the last bit: minute by minute, or with half a day of facts at a time,
    in any order and some of them twice, while the questions of that half day are still to come."""
    assert len(expected) >= 10_000
    timeline, state = Timeline(eleven_days, seed=7), FlightState()
    state.apply(message for message in messages_of(replace(eleven_days, flights=eleven_days.flights[:0], weather=eleven_days.weather[:0])))
    first, last = datetime(2013, 3, 2, tzinfo=UTC), datetime(2013, 3, 15, tzinfo=UTC)
    steps = [step for step in timeline.steps(first, last) if step.facts or step.questions]
    blocks: dict[Any, list[Any]] = {}
    for step in steps:
        blocks.setdefault(step.at if hours is None else (step.at - first) // timedelta(hours=hours), []).append(step)
    found: dict[str, tuple[Value, ...]] = {}
    for number, block in enumerate(blocks.values()):
        state.apply(arrival([fact for step in block for fact in step.facts], number))
        for step in block:
            found |= {name: state.read(ask(_json(item))).values for name, item in step.questions if name in expected}

    assert found.keys() == expected.keys()
    wrong = Counter(
        feature for name, values in expected.items() for feature, a, b in zip(NAMES, values, found[name], strict=True) if not same([a], [b])
    )
    assert wrong == {}


def _json(item: bytes) -> dict[str, Any]:
    import orjson

    read: dict[str, Any] = orjson.loads(item)
    return read


def test_forgetting_what_is_older_than_a_day_and_a_half_changes_no_answer(eleven_days: Year, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the state stops growing."""

    def played() -> tuple[list[tuple[Value, ...]], int]:
        state, answers = FlightState(), []
        for step in Timeline(eleven_days, seed=7).steps(datetime(2013, 3, 4, tzinfo=UTC), datetime(2013, 3, 8, tzinfo=UTC)):
            state.apply(step.facts)
            answers += [state.read(ask(_json(item))).values for _, item in step.questions]
        return answers, sum(len(recent._facts) for recent in state._by_origin.values())

    forgetful, few = played()
    monkeypatch.setattr(online_module, "KEPT_S", 10**9)
    complete, many = played()

    assert forgetful == complete
    assert few < many * 0.8


def test_a_fact_of_yesterday_is_kept_although_half_a_day_of_newer_ones_came_first() -> None:
    """The longest window is a day, and facts may be half a day ahead of the question."""
    mine = {"tail_number": "N1"}
    old = [departed(MOMENT - timedelta(hours=30, minutes=i), 1, **mine) for i in range(90)]
    new = [departed(MOMENT + timedelta(minutes=8 * i), 2, **mine) for i in range(1, 91)]
    year = a_year([a_flight(), *old, departed(MOMENT - timedelta(hours=23, minutes=50), 77, **mine), *new])

    assert answers_online(online(year), year, ["asked"])["asked"][NAMES.index("aircraft_delay_min")] == 77.0


def test_a_plan_is_told_a_day_ahead_with_what_the_question_needs_and_only_where_it_is_asked_for(eleven_days: Year) -> None:
    timeline = Timeline(eleven_days, seed=7)
    monday, friday = datetime(2013, 3, 4, tzinfo=UTC), datetime(2013, 3, 8, tzinfo=UTC)
    planned = {plan.subject: plan for step in timeline.steps(monday, friday, plans=True) for plan in step.plans}
    asked = {name: _json(item) for step in timeline.steps(monday, friday) for name, item in step.questions}

    assert not any(step.plans for step in timeline.steps(monday, friday))
    both = planned.keys() & asked.keys()
    assert len(both) > 1000
    assert all(dict(planned[name].data) == asked[name] for name in both)
    assert all(plan.at == from_iso(plan.data["scheduled_departure"]) - timedelta(days=1) for plan in planned.values())
