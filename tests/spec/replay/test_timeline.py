"""The timeline of a replay: facts, questions and reports of a year in the order in which production has them."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from flight_builders import span
from mlops_lab.flights.source import Year
from mlops_lab.flights.timeline import REVISED_AFTER, Report, Step, Timeline, report_item

MONDAY = datetime(2013, 4, 1, tzinfo=UTC)
MINUTE, DAY, WEEK = timedelta(minutes=1), timedelta(days=1), timedelta(weeks=1)


@pytest.fixture(scope="module")
def fortnight(year: Year) -> Year:
    return span(year, MONDAY, MONDAY + 2 * WEEK)


@pytest.fixture(scope="module")
def steps(fortnight: Year) -> list[Step]:
    """All that happens about two weeks of flights."""
    return list(Timeline(fortnight, seed=7).steps(MONDAY - DAY, MONDAY + 4 * WEEK))


@pytest.fixture(scope="module")
def reports(steps: list[Step]) -> list[Report]:
    """Every report about two weeks of flights."""
    return [report for step in steps for report in step.reports]


def test_each_flight_that_lands_is_reported_and_no_other(fortnight: Year, reports: list[Report]) -> None:
    landed = fortnight.flights[fortnight.flights["arrived_at"].notna()]

    assert {report.entity for report in reports} == set(landed["flight_id"])
    assert len(landed) < len(fortnight.flights)


def test_the_highest_revision_tells_the_truth(fortnight: Year, reports: list[Report]) -> None:
    truth = dict(zip(fortnight.flights["flight_id"], fortnight.flights["arrival_delay_min"], strict=True))
    last = {report.entity: report.delay_min for report in sorted(reports, key=lambda report: report.revision)}

    assert last == {entity: truth[entity] for entity in last}


def test_nothing_is_known_before_it_happened_or_sent_before_it_is_known(fortnight: Year, reports: list[Report]) -> None:
    landed = dict(zip(fortnight.flights["flight_id"], fortnight.flights["arrived_at"], strict=True))

    assert all(landed[report.entity] <= report.known_at <= report.due for report in reports)


def test_some_reports_are_late_some_come_twice_and_some_are_corrected(fortnight: Year, reports: list[Report]) -> None:
    """2 % up to three days late, 1 % twice, 0.5 % wrong at first and right two hours later."""
    landed = dict(zip(fortnight.flights["flight_id"], fortnight.flights["arrived_at"], strict=True))
    first = {report.event_id: report for report in reversed(reports)}
    sendings = Counter(report.event_id for report in reports)
    plain = [report for report in first.values() if report.revision == 0]
    late = [report for report in plain if report.known_at - landed[report.entity] > timedelta(minutes=30)]
    corrections = {report.entity: report for report in first.values() if report.revision == 1}

    assert 0.015 < len(late) / len(plain) < 0.025
    assert max(report.known_at - landed[report.entity] for report in plain) < timedelta(days=3, hours=1)
    assert 0.007 < sum(count == 2 for count in sendings.values()) / len(plain) < 0.013
    assert max(sendings.values()) == 2
    assert 0.003 < len(corrections) / len(plain) < 0.007
    for entity, correction in corrections.items():
        wrong = first[f"landed-{entity}-0"]
        assert correction.known_at - wrong.known_at == REVISED_AFTER
        assert abs(correction.delay_min - wrong.delay_min) == 20


def test_a_repetition_says_the_same_and_comes_later(reports: list[Report]) -> None:
    by_event: dict[str, list[Report]] = {}
    for report in reports:
        by_event.setdefault(report.event_id, []).append(report)

    for once, *again in by_event.values():
        for other in again:
            assert report_item(other, "p") == report_item(once, "p")
            assert other.due > once.due


def test_how_a_flight_is_reported_depends_on_that_flight_and_the_seed_alone(fortnight: Year) -> None:
    """When the year is continued, what was reported of the flights before must not change."""
    fewer = replace(fortnight, flights=fortnight.flights.iloc[1000:].reset_index(drop=True))
    known = set(fewer.flights["flight_id"])

    def reports(year: Year) -> list[Report]:
        steps = Timeline(year, seed=7).steps(MONDAY - DAY, MONDAY + 4 * WEEK)
        return [report for step in steps for report in step.reports if report.entity in known]

    assert reports(fewer) == reports(fortnight)


def test_the_same_seed_gives_the_same_timeline_and_another_one_another(fortnight: Year) -> None:
    once, again, other = (list(Timeline(fortnight, seed).steps(MONDAY, MONDAY + DAY)) for seed in (7, 7, 8))

    assert once == again
    assert [fact for step in once for fact in step.facts] == [fact for step in other for fact in step.facts]
    assert [report for step in once for report in step.reports] != [report for step in other for report in step.reports]


def test_a_span_in_two_parts_is_the_span(fortnight: Year) -> None:
    """(after, until]: nothing is played twice, nothing is left out, and time goes forward."""
    timeline = Timeline(fortnight, seed=7)
    middle = MONDAY + timedelta(hours=31, minutes=30)
    whole = list(timeline.steps(MONDAY, MONDAY + 2 * DAY))
    parts = [*timeline.steps(MONDAY, middle), *timeline.steps(middle, MONDAY + 2 * DAY)]

    assert parts == whole
    assert [step.at for step in whole] == sorted({step.at for step in whole})
    assert all(MONDAY < step.at <= MONDAY + 2 * DAY for step in whole)


def test_each_flight_is_asked_about_once_an_hour_before_it_is_due(fortnight: Year, steps: list[Step]) -> None:
    due = dict(zip(fortnight.flights["flight_id"], fortnight.flights["scheduled_departure"], strict=True))
    asked = [(entity, step.at) for step in steps for entity, _ in step.questions]

    assert len(asked) == len(due)
    assert all(due[entity] - at == timedelta(hours=1) for entity, at in asked)


def test_a_warm_up_brings_the_facts_of_the_last_day_and_a_half_and_no_question(fortnight: Year) -> None:
    until = MONDAY + 4 * DAY
    facts = Timeline(fortnight, seed=7).warm_up(until)

    assert facts
    assert all(until - timedelta(hours=36) < fact.at <= until for fact in facts)
    assert [fact.at for fact in facts] == sorted(fact.at for fact in facts)
