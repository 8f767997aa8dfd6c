"""What the model saw beside what the published facts give: equal to the last bit, or different for a reason that is named and proven."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mlops_lab.events import REFERENCES, SCHEDULE, Message
from mlops_lab.flights import messages
from mlops_lab.flights.facts import DEPARTED
from mlops_lab.flights.source import Year
from mlops_lab.flights.timeline import Timeline
from mlops_lab.pipelines import published as published_module
from mlops_lab.pipelines.parity import Parity, answers_of, compare
from mlops_lab.pipelines.published import published
from parity_builders import Answering

MONDAY = datetime(2013, 4, 1, tzinfo=UTC)
WEEK = timedelta(days=7)
NOON = MONDAY + timedelta(hours=16)
"""In New York; a busy time."""

OnTime = Callable[[Message], timedelta]


def played(
    home: Path, data: Path, year: Year, until: datetime, *, late: OnTime = lambda fact: timedelta(0), plans: bool = False
) -> Answering:
    """From Monday on; a fact is published so late after it happened, in the order of publication, and questions are asked in between."""
    made = Answering(home, data)
    timeline = Timeline(year, seed=7)
    made.publish(messages.aircraft(year.aircraft, MONDAY), REFERENCES)
    made.publish(timeline.warm_up(MONDAY))
    steps = list(timeline.steps(MONDAY, until, plans=plans))
    due = sorted(((fact.at + late(fact), fact) for step in steps for fact in step.facts), key=lambda one: one[0])
    at = 0
    for step in steps:
        before = at
        while at < len(due) and due[at][0] <= step.at:
            at += 1
        made.publish(fact for _, fact in due[before:at])
        if plans:
            made.lab.bus.publish(SCHEDULE, step.plans)
        made.answer(step.questions)
    made.publish(fact for _, fact in due[at:])
    return made


def compared(made: Answering) -> Parity:
    made.record()
    return compare(made.lab, answers_of(made.lab, MONDAY, MONDAY + WEEK))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def test_what_was_served_from_facts_that_came_in_time_is_what_training_would_see(home: Path, flight_data: Path, year: Year) -> None:
    found = compared(played(home, flight_data, year, MONDAY + timedelta(days=2)))

    assert found.answers > 1_800
    assert found.values > 20 * found.answers
    assert found.differing == ()
    assert found.holds


def test_a_flight_that_never_left_is_compared_wholly_where_its_plan_was_published(home: Path, flight_data: Path, year: Year) -> None:
    """Its aircraft is nowhere else."""
    never = year.flights["scheduled_departure"] >= MONDAY
    tailed = year.flights["tail_number"].notna() & never
    cancelled = replace(year, flights=year.flights.copy())
    gone = cancelled.flights.index[tailed][5:400:40]
    cancelled.flights.loc[gone, ["departed_at", "arrived_at"]] = None
    made = {plans: played(home / str(plans), flight_data, cancelled, NOON + timedelta(days=1), plans=plans) for plans in (False, True)}
    without, with_plans = compared(made[False]), compared(made[True])

    assert without.partly >= 10
    assert without.values < with_plans.values
    assert (without.differing, with_plans.differing) == ((), ())
    assert with_plans.partly < without.partly


def slow(hours: float, of: Callable[[Message], bool]) -> OnTime:
    return lambda fact: timedelta(hours=hours) if of(fact) else timedelta(0)


def test_a_fact_that_came_after_the_answer_is_named_as_the_reason(home: Path, flight_data: Path, year: Year) -> None:
    """One departure of Newark is told an hour late: answers in between did not know it, all others agree."""
    some = [one for one in Timeline(year, seed=7).steps(NOON, NOON + timedelta(hours=1), questions=False) for one in one.facts]
    told_late = next(one for one in some if one.type == DEPARTED and one.subject == "EWR")
    found = compared(played(home, flight_data, year, MONDAY + timedelta(days=1), late=slow(1, lambda one: one.id == told_late.id)))

    assert len(found.differing) > 10
    assert found.unexplained == 0
    for one in found.differing:
        assert told_late.at <= one.moment < told_late.at + timedelta(hours=1)
        assert one.reason is not None
        assert [each.message.id for each in one.reason.missing] == [told_late.id]
        assert str(one.reason) == f"FlightDeparted {told_late.id} was published 59 min late, after the answer"
    assert not found.holds  # one fact so late at a busy hour is more than one answer in a thousand


def test_several_late_facts_are_each_found_out(home: Path, flight_data: Path, year: Year) -> None:
    """Of five hundred facts one in a hundred is late by up to an hour."""
    some = [one for one in Timeline(year, seed=7).steps(NOON, NOON + timedelta(hours=4), questions=False) for one in one.facts]
    minutes = {one.id: 7 + number % 53 for number, one in enumerate(some[::100])}
    late: OnTime = lambda fact: timedelta(minutes=minutes.get(fact.id, 0))  # noqa: E731
    found = compared(played(home, flight_data, year, MONDAY + timedelta(days=1), late=late))
    named = {each.message.id for one in found.differing if one.reason for each in one.reason.missing}

    assert found.differing
    assert found.unexplained == 0
    assert named <= set(minutes)


def test_a_feature_that_no_late_fact_explains_is_said_so(home: Path, flight_data: Path, year: Year) -> None:
    made = played(home, flight_data, year, NOON)
    made.change(30, origin_delay_3h_min=99.5)
    found = compared(made)

    (one,) = found.differing
    (difference,) = one.differences
    assert (difference.feature, difference.served) == ("origin_delay_3h_min", 99.5)
    assert one.reason is None
    assert (found.unexplained, found.holds) == (1, False)


def test_a_service_that_knows_the_future_is_found_out(home: Path, flight_data: Path, year: Year) -> None:
    """Half an hour of facts behind the question's moment counted for it."""
    made = Answering(home, flight_data)
    made.publish(messages.aircraft(year.aircraft, MONDAY), REFERENCES)
    timeline = Timeline(year, seed=7)
    made.publish(timeline.warm_up(NOON + timedelta(minutes=30)))
    for step in timeline.steps(NOON - timedelta(minutes=6), NOON):
        made.answer(step.questions, moment=step.at + timedelta(minutes=30))
    found = compared(made)

    assert found.answers > 3
    assert found.unexplained > found.answers / 2


def test_nothing_asked_proves_nothing(home: Path, flight_data: Path) -> None:
    made = Answering(home, flight_data)

    assert answers_of(made.lab, MONDAY, MONDAY + WEEK).empty
    assert not Parity(MONDAY, MONDAY, 0, 0, 0, 0, ()).holds


# --- Reading back what was published ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("few", [1, 3_000, 10**9])
def test_a_span_is_found_among_weeks_of_facts_with_what_came_late_in_it(
    home: Path, flight_data: Path, year: Year, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published_module, "_FEW", few)
    made = Answering(home, flight_data)
    steps = list(Timeline(year, seed=7).steps(MONDAY, MONDAY + 2 * WEEK, questions=False))
    facts = [fact for step in steps for fact in step.facts]
    late = facts.pop(5_000)
    facts.insert(7_000, late)
    made.lab.bus.publish("observations", facts)
    for after in (MONDAY - WEEK, late.at - timedelta(hours=1), MONDAY + WEEK, MONDAY + 3 * WEEK):
        until = after + timedelta(days=3)
        found = published(made.lab.bus, "observations", after, until)
        assert [one.message.id for one in found] == [one.id for one in facts if after < one.at <= until]
    (one,) = [each for each in published(made.lab.bus, "observations", late.at - timedelta(hours=1), late.at) if each.message.id == late.id]
    assert one.seen == facts[6_999].at > late.at
