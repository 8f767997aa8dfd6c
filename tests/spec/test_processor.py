"""The stream processor: whatever dies, repeats or comes in disorder, the rows in the store are those of the facts that were sent."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mlops_lab.clock import FixedClock
from mlops_lab.errors import BusReplaced, BusUnreachable, EventRefused, FeatureStoreUnreachable
from mlops_lab.events import OBSERVATIONS, REFERENCES, Delivery, Message
from mlops_lab.events.dead import dead_letters, retry
from mlops_lab.events.on_sqlite import SqliteBus
from mlops_lab.events.schema import EventTypes
from mlops_lab.features.ahead import AHEAD, Leap
from mlops_lab.features.in_memory import MemoryRows
from mlops_lab.features.processor import Processor
from mlops_lab.features.rows import Progress, RowRef
from mlops_lab.features.shard import Shard
from mlops_lab.flights import messages
from mlops_lab.flights.facts import OBSERVED
from mlops_lab.flights.online_usecase import FlightsOnline
from mlops_lab.flights.source import Year
from stream_builders import MONDAY, facts_of, in_disorder, rows_of

TYPES = EventTypes(FlightsOnline.event_types)
NOW = FixedClock(datetime(2026, 1, 1, tzinfo=UTC))


class Died(BaseException):
    """As a kill would: nothing catches it."""


@pytest.fixture(scope="module")
def facts(year: Year) -> list[Message]:
    """Two days of April, in order."""
    return facts_of(year, days=2)


@pytest.fixture(scope="module")
def aircraft(year: Year) -> list[Message]:
    return list(messages.aircraft(year.aircraft.head(300), MONDAY))


@pytest.fixture
def bus(tmp_path: Path) -> SqliteBus:
    return SqliteBus(tmp_path / "bus.db")


def a_processor(bus: Any, store: Any, shard: Shard | None = None, **how: Any) -> Processor:
    return Processor(bus, TYPES, FlightsOnline().row_state, store, NOW, shard=shard, **how)


def alive(store: MemoryRows, facts: Sequence[Message]) -> Mapping[RowRef, bytes]:
    """The rows to which the last hours gave something: all that there is of the others is not read again after a restart."""
    return {ref: store.held[ref] for ref in rows_of([fact for fact in facts if fact.at > facts[-1].at - timedelta(hours=11)])}


def run(processor: Processor) -> Processor:
    while processor.step():
        pass
    return processor


def test_rows_are_those_of_the_facts_that_were_sent(bus: SqliteBus, facts: list[Message], aircraft: list[Message]) -> None:
    bus.publish(REFERENCES, aircraft)
    store = MemoryRows()
    processor = a_processor(bus, store)
    for start in range(0, len(facts), 700):
        bus.publish(OBSERVATIONS, facts[start : start + 700])
        run(processor)

    assert store.held == rows_of(facts, aircraft)
    assert processor.counts.applied == len(facts) + len(aircraft)
    assert store.said is not None
    assert store.said.offsets == {OBSERVATIONS: (len(facts),), REFERENCES: (len(aircraft),)}
    assert store.said.watermark_s == int((facts[-1].at - timedelta(minutes=10)).timestamp())
    assert processor.lag() == {OBSERVATIONS: [0], REFERENCES: [0]}


@pytest.mark.parametrize("seed", range(3))
def test_disorder_repetition_and_lateness_change_no_row(bus: SqliteBus, facts: list[Message], seed: int) -> None:
    bus.publish(OBSERVATIONS, in_disorder(facts, seed))
    store = MemoryRows()
    processor = run(a_processor(bus, store))
    assert store.held == rows_of(facts)
    assert processor.counts.late > 0
    assert processor.counts.too_late == 0


class Mortal:
    """A bus or a store that dies with its process before or after the call of this number that changes something."""

    def __init__(self, inner: Any, calls: list[int], at: int, changing: str) -> None:
        self._inner, self._calls, self._at, self._changing = inner, calls, at, changing

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name != self._changing:
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            self._calls[0] += 1
            if self._calls[0] == self._at:
                raise Died
            result = found(*args, **kwargs)
            self._calls[0] += 1
            if self._calls[0] == self._at:
                raise Died
            return result

        return call


class TornStore(MemoryRows):
    """A store in which rows are there before the progress is, with a moment in between to die in."""

    def __init__(self, between: Callable[[], None]) -> None:
        super().__init__()
        self.between = between

    def write(self, rows: Mapping[RowRef, bytes], progress: Progress) -> None:
        self.held.update(rows)
        self.between()
        self.said = progress


def test_a_death_at_any_point_loses_nothing_and_counts_nothing_twice(tmp_path: Path, facts: list[Message], aircraft: list[Message]) -> None:
    wanted = rows_of(facts, aircraft)
    survived = False
    at = 0
    while not survived:
        at += 1
        bus, calls = SqliteBus(tmp_path / f"bus-{at}.db"), [0]
        bus.publish(REFERENCES, aircraft)
        bus.publish(OBSERVATIONS, facts[:1500])

        def between(calls: list[int] = calls, at: int = at) -> None:
            calls[0] += 1
            if calls[0] == at:
                raise Died

        store = TornStore(between)
        processor = a_processor(Mortal(bus, calls, at, "commit"), Mortal(store, calls, at, "write"))
        try:
            run(processor)
            survived = True
        except Died:
            pass
        store.between = lambda: None
        bus.publish(OBSERVATIONS, facts[1500:])
        run(a_processor(bus, store))
        assert store.held == wanted, f"died at {at}"
    assert at > 10


def test_a_restart_goes_on_with_the_facts_of_before(bus: SqliteBus, facts: list[Message], aircraft: list[Message]) -> None:
    bus.publish(REFERENCES, aircraft)
    store = MemoryRows()
    for start in range(0, len(facts), 900):
        bus.publish(OBSERVATIONS, facts[start : start + 900])
        processor = a_processor(bus, store)
        run(processor)
        assert processor.rewritten == 0
    assert store.held == rows_of(facts, aircraft)


def test_a_replay_from_the_start_gives_identical_rows(bus: SqliteBus, facts: list[Message]) -> None:
    bus.publish(OBSERVATIONS, [*in_disorder(facts, 3), facts[5]])
    store = MemoryRows()
    processor = run(a_processor(bus, store))
    before = dict(store.held)
    bus.commit("features", OBSERVATIONS, 0)
    store.held.clear()
    processor._looked_at = 0.0
    run(processor)
    assert store.held == before
    assert processor.counts.applied > len(facts) * 2


def test_a_store_that_was_emptied_is_filled_again(bus: SqliteBus, facts: list[Message]) -> None:
    bus.publish(OBSERVATIONS, facts)
    store = MemoryRows()
    processor = run(a_processor(bus, store))
    store.held.clear()
    store.said = None
    processor._looked_at = 0.0
    assert processor.step() == 0
    assert store.held == rows_of(facts)
    assert processor.rewritten == 1

    store.held.clear()  # and with the processor away
    store.said = None
    run(a_processor(bus, store))
    assert len(alive(store, facts)) > 500  # of the others nothing is read any more
    assert alive(store, facts) == {ref: row for ref, row in rows_of(facts).items() if ref in alive(store, facts)}


def test_what_cannot_be_used_is_buried_and_the_partition_moves_on(bus: SqliteBus, facts: list[Message]) -> None:
    broken = replace(facts[3], id="broken", data={**facts[3].data, next(iter(facts[3].data)): None})
    unknown = replace(facts[4], id="unknown", type="FlightVanished")
    future = replace(next(fact for fact in facts if fact.type == OBSERVED), id="future", at=NOW.now() + timedelta(hours=1))
    bus.publish(OBSERVATIONS, [*facts[:100], broken, unknown, future, *facts[100:]])
    store = MemoryRows()
    processor = run(a_processor(bus, store))

    assert store.held == rows_of(facts)
    lying = [each.letter for each in dead_letters(bus, OBSERVATIONS)]
    assert [letter.event().id for letter in lying] == ["broken", "unknown", "future"]
    assert {letter.tries for letter in lying} == {3}
    assert processor.counts.dead == 3
    again = MemoryRows()
    bus.commit("features", OBSERVATIONS, 0)
    run(a_processor(bus, again))
    assert len(dead_letters(bus, OBSERVATIONS)) == 3
    assert again.held == store.held


def test_what_cannot_be_buried_is_not_passed_over(bus: SqliteBus, facts: list[Message]) -> None:
    class Deaf:
        def __init__(self) -> None:
            self.deaf = True

        def __getattr__(self, name: str) -> Any:
            if name == "publish" and self.deaf:
                raise BusUnreachable.at("nowhere", "it does not listen")
            return getattr(bus, name)

    bus.publish(OBSERVATIONS, [*facts[:10], replace(facts[4], id="unknown", type="FlightVanished"), *facts[10:]])
    deaf, store = Deaf(), MemoryRows()
    processor = a_processor(deaf, store)
    for _ in range(2):
        with pytest.raises(BusUnreachable):
            processor.step()
    assert store.held == rows_of(facts[:10])  # what came before it is written
    deaf.deaf = False
    run(processor)
    assert store.held == rows_of(facts)
    assert len(dead_letters(bus, OBSERVATIONS)) == 1


def test_rows_wait_while_the_store_is_away_and_nothing_is_read_past_them(bus: SqliteBus, facts: list[Message]) -> None:
    class Away(MemoryRows):
        away = True

        def write(self, rows: Mapping[RowRef, bytes], progress: Progress) -> None:
            if self.away:
                raise FeatureStoreUnreachable.at("nowhere", "it is away")
            super().write(rows, progress)

    bus.publish(OBSERVATIONS, facts)
    store = Away()
    processor = a_processor(bus, store)
    for _ in range(3):
        with pytest.raises(FeatureStoreUnreachable):
            processor.step()
    assert bus.committed("features", OBSERVATIONS) == 0
    assert processor.counts.applied == 1000
    store.away = False
    run(processor)
    assert store.held == rows_of(facts)
    assert processor.counts.applied == len(facts)


def test_a_store_that_comes_back_empty_is_filled_whatever_was_written_first(bus: SqliteBus, facts: list[Message]) -> None:
    """What waited for it, or came meanwhile, must not hide that the rest is gone."""

    class Dies(MemoryRows):
        dies = False

        def write(self, rows: Mapping[RowRef, bytes], progress: Progress) -> None:
            if self.dies:
                self.dies, self.held, self.said = False, {}, None
                raise FeatureStoreUnreachable.at("nowhere", "it died, and is empty when it is back")
            super().write(rows, progress)

    bus.publish(OBSERVATIONS, facts[:3000])
    store = Dies()
    processor = run(a_processor(bus, store))
    store.dies = True
    bus.publish(OBSERVATIONS, facts[3000:3010])
    with pytest.raises(FeatureStoreUnreachable):
        processor.step()
    run(processor)
    assert store.held == rows_of(facts[:3010])

    store.held, store.said = {}, None  # between two writes, and nobody noticed
    bus.publish(OBSERVATIONS, facts[3010:3020])
    run(processor)
    assert store.held == rows_of(facts[:3020])
    assert processor.rewritten == 2


def test_a_fact_that_is_too_late_is_counted_and_changes_no_row_again_and_again(bus: SqliteBus, facts: list[Message]) -> None:
    bus.publish(OBSERVATIONS, [*facts[1:], facts[0]])
    for _ in range(2):
        store = MemoryRows()
        bus.commit("features", OBSERVATIONS, 0)
        processor = run(a_processor(bus, store))
        assert processor.counts.too_late == 1
        assert store.held == rows_of(facts[1:])


def test_shards_share_the_rows_among_them(bus: SqliteBus, facts: list[Message], aircraft: list[Message]) -> None:
    bus.publish(REFERENCES, aircraft)
    bus.publish(OBSERVATIONS, facts)
    stores = [MemoryRows(), MemoryRows(), MemoryRows()]
    for number, store in enumerate(stores):
        run(a_processor(bus, store, Shard(number, 3)))
    assert sum(len(store.held) for store in stores) == len(rows_of(facts, aircraft))
    together: dict[RowRef, bytes] = {}
    for store in stores:
        assert len(store.held) > 100
        together |= store.held
    assert together == rows_of(facts, aircraft)


def test_a_bus_that_was_made_anew_is_read_from_its_start(bus: SqliteBus, facts: list[Message]) -> None:
    class Replaced:
        """Says once that it is another bus, as a broker does whose topic ends before the offset asked for."""

        said = False

        def __getattr__(self, name: str) -> Any:
            return getattr(bus, name)

        def read(self, topic: str, after: int, limit: int = 1000, partition: int = 0) -> Any:
            if topic == OBSERVATIONS and after and not self.said:
                self.said = True
                bus.commit("features", OBSERVATIONS, 0)
                raise BusReplaced.at("the test", "another one came to its place")
            return bus.read(topic, after, limit, partition)

    bus.publish(OBSERVATIONS, facts)
    store = MemoryRows()
    processor = a_processor(Replaced(), store)
    processor.step()
    with pytest.raises(BusReplaced):
        processor.step()
    assert bus.committed("features", OBSERVATIONS) == 0  # nothing of the former one is committed in it
    run(processor)
    assert store.held == rows_of(facts)


def test_a_rebuild_writes_all_rows_of_the_whole_log_and_counts_nothing_twice(bus: SqliteBus, facts: list[Message]) -> None:
    unknown = replace(facts[4], id="unknown", type="FlightVanished")
    bus.publish(OBSERVATIONS, [*facts[:9], unknown, *facts[9:]])
    store = MemoryRows()
    run(a_processor(bus, store))
    store.held.clear()
    store.said = None
    processor = a_processor(bus, store)

    assert processor.rebuild() == len(rows_of(facts))
    assert store.held == rows_of(facts)  # also what is older than the hours that a restart reads
    assert processor.counts.applied == 0
    assert len(dead_letters(bus, OBSERVATIONS)) == 1
    assert processor.step() == 0
    assert processor.rewritten == 1


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
