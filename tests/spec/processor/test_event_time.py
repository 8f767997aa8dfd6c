"""The stream processor and event time: what is too late, from the future, or of a wrong year has no effect, again and again."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from mlops_lab.errors import EventRefused
from mlops_lab.events import OBSERVATIONS, REFERENCES, Delivery, Message
from mlops_lab.events.dead import dead_letters, retry
from mlops_lab.events.on_sqlite import SqliteBus
from mlops_lab.features.ahead import AHEAD, Leap
from mlops_lab.features.in_memory import MemoryRows
from mlops_lab.flights.source import Year
from processor_builders import NOW, TYPES, a_processor, alive, run
from stream_builders import facts_of, rows_of


def test_a_fact_that_is_too_late_is_counted_and_changes_no_row_again_and_again(bus: SqliteBus, facts: list[Message]) -> None:
    bus.publish(OBSERVATIONS, [*facts[1:], facts[0]])
    for _ in range(2):
        store = MemoryRows()
        bus.commit("features", OBSERVATIONS, 0)
        processor = run(a_processor(bus, store))
        assert processor.counts.too_late == 1
        assert store.held == rows_of(facts[1:])


def test_an_event_from_the_future_has_no_effect_after_a_restart_either(bus: SqliteBus, facts: list[Message]) -> None:
    """Taken in again, it would be the newest fact, and all that comes behind it too late to count."""
    half = len(facts) // 2
    later = replace(facts[4], id="later", at=NOW.at + timedelta(days=900), data={**facts[4].data, "flight_id": "later"})
    bus.publish(OBSERVATIONS, [*facts[:half], later])
    store = MemoryRows()
    run(a_processor(bus, store))
    assert len(dead_letters(bus, OBSERVATIONS)) == 1

    bus.publish(OBSERVATIONS, facts[half:])
    processor = run(a_processor(bus, store))

    assert store.said is not None
    assert store.held == rows_of(facts)
    assert processor.counts.too_late == 0
    assert store.said.watermark_s == int((facts[-1].at - timedelta(minutes=10)).timestamp())


def in_2020(fact: Message, name: str = "2020", days: int = 0) -> Message:
    """By the wall clock it is long past; in a replay of 2013 it is the newest for years."""
    at = datetime(2020, 5, 1, 12, tzinfo=UTC) + timedelta(days=days)
    return replace(fact, id=name, at=at, data={**fact.data, "flight_id": name})


@pytest.mark.parametrize(("at_once", "place"), [(1, 30), (50, 1500), (1000, 1500), (1000, 0)])
def test_one_event_of_a_wrong_year_makes_no_fact_of_a_replay_too_late(
    bus: SqliteBus, facts: list[Message], caplog: pytest.LogCaptureFixture, at_once: int, place: int
) -> None:
    if at_once == 1:
        facts = facts[:60]
    sent = [*facts[:place], in_2020(facts[4]), *facts[place:]]
    store = MemoryRows()
    processor = a_processor(bus, store)
    for start in range(0, len(sent), at_once):
        bus.publish(OBSERVATIONS, sent[start : start + at_once])
        run(processor)

    assert store.held == rows_of(facts)
    assert processor.counts.too_late == 0
    assert store.said is not None
    assert store.said.watermark_s == int((facts[-1].at - timedelta(minutes=10)).timestamp())
    letters = [each.letter for each in dead_letters(bus, OBSERVATIONS)]
    assert [(letter.event().id, letter.reason) for letter in letters] == [("2020", "from_the_future")]
    assert "its time is 2020-05-01T12:00:00Z, and its partition has come to 2013-04-0" in letters[0].why

    again = MemoryRows()
    caplog.clear()
    restarted = run(a_processor(bus, again))
    assert restarted.counts.passed_over == 1
    told = [record for record in caplog.records if record.getMessage() == "features.passed_over"]
    assert [(record.__dict__["offset"], record.__dict__["id"]) for record in told] == [(place + 1, "2020")]
    assert alive(again, facts) == alive(store, facts)


def test_a_restart_behind_an_event_of_a_wrong_year_reads_as_far_back_as_without(bus: SqliteBus, facts: list[Message]) -> None:
    bus.publish(OBSERVATIONS, [*facts[:2500], in_2020(facts[4]), *facts[2500:3000]])
    store = MemoryRows()
    run(a_processor(bus, store))
    before = dict(store.held)
    store.held.clear()
    store.said = None

    run(a_processor(bus, store))

    assert alive(store, facts[:3000]) == {ref: before[ref] for ref in alive(store, facts[:3000])}


def test_time_that_leaps_for_all_is_followed(bus: SqliteBus, facts: list[Message], year: Year) -> None:
    """A replay goes on with June. One event at a time, the first is alone: it lies among the dead letters, and a retry brings it back."""
    june = facts_of(year, days=0.2, since=datetime(2013, 6, 1, 12, tzinfo=UTC))
    bus.publish(OBSERVATIONS, [*facts, *june[:100]])
    store = MemoryRows()
    processor = run(a_processor(bus, store))
    assert store.held == rows_of(facts, june[:100])
    assert processor.counts.dead == processor.counts.too_late == 0

    july = [replace(fact, at=fact.at + timedelta(days=30)) for fact in june[100:110]]
    for fact in july:
        bus.publish(OBSERVATIONS, [fact])
        run(processor)
    assert store.held == rows_of(facts, june[:100], july[1:])
    (lying,) = dead_letters(bus, OBSERVATIONS)
    assert lying.letter.event().id == july[0].id
    retry(bus, lying.letter, TYPES, by="somebody", at=NOW.at)
    run(processor)
    assert store.held == rows_of(facts, june[:100], july)


def test_an_event_that_comes_twice_is_no_company_to_itself(facts: list[Message]) -> None:
    leap, wrong, other = Leap(), in_2020(facts[4]), in_2020(facts[4], "another", days=1)
    for behind in ([], [wrong], [wrong, facts[9]]):
        with pytest.raises(EventRefused):
            leap.require(wrong, facts[8].at, [Delivery(10 + n, each) for n, each in enumerate(behind)], lambda each: True)
    with pytest.raises(EventRefused):
        leap.require(other, facts[8].at, (), lambda each: True)  # a day from the other one is far too
    leap.require(replace(other, id="a third", at=other.at - AHEAD), facts[8].at, (), lambda each: True)
    leap.require(facts[9], facts[8].at, (), lambda each: True)
    with pytest.raises(EventRefused):
        leap.require(other, facts[9].at, (), lambda each: True)  # what is of the present ends the company


def test_what_is_no_fact_does_not_shorten_what_a_restart_reads(bus: SqliteBus, facts: list[Message]) -> None:
    """It may be of any time: of the hours before it there may be no facts at all."""
    day = [fact for fact in facts if fact.at < facts[0].at + timedelta(hours=30)]
    assert len(day) > 1_200
    unknown = replace(day[4], id="unknown", type="FlightVanished", at=NOW.at)
    bus.publish(OBSERVATIONS, [*day, unknown])
    store = MemoryRows()
    run(a_processor(bus, store))
    store.held.clear()
    store.said = None

    run(a_processor(bus, store))

    assert store.held == rows_of(day)


@pytest.mark.parametrize("at", [datetime(1969, 12, 31, tzinfo=UTC), datetime(1, 1, 1, 0, 5, tzinfo=UTC)])
def test_a_time_that_no_row_can_hold_ends_among_the_dead_letters(
    bus: SqliteBus, facts: list[Message], aircraft: list[Message], at: datetime
) -> None:
    bus.publish(REFERENCES, [replace(aircraft[0], id="early", at=at), *aircraft[1:]])
    bus.publish(OBSERVATIONS, [replace(facts[4], id="early", at=at), *facts])
    store = MemoryRows()

    processor = run(a_processor(bus, store))

    assert store.held == rows_of(facts, aircraft[1:])
    assert [len(dead_letters(bus, topic)) for topic in (REFERENCES, OBSERVATIONS)] == [1, 1]
    bus.publish(OBSERVATIONS, [replace(facts[-1], id="again")])
    assert run(a_processor(bus, store)).counts.dead == 0
    assert processor.counts.too_late == 0
