"""The stream processor: whatever dies, is emptied or is made anew, rows are whole again and nothing counts twice."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlops_lab.errors import BusReplaced, FeatureStoreUnreachable
from mlops_lab.events import OBSERVATIONS, REFERENCES, Message
from mlops_lab.events.dead import dead_letters
from mlops_lab.events.on_sqlite import SqliteBus
from mlops_lab.features.in_memory import MemoryRows
from mlops_lab.features.rows import Progress, RowRef
from processor_builders import a_processor, alive, run
from stream_builders import in_disorder, rows_of


class Died(BaseException):
    """As a kill would: nothing catches it."""


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
