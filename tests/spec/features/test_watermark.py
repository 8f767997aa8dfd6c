"""The watermark is a promise: all facts up to it are in, but for those that came later than the bound. It holds on several partitions."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from mlops_lab.clock import FixedClock
from mlops_lab.events import OBSERVATIONS, Delivery, Message
from mlops_lab.events.on_sqlite import SqliteBus
from mlops_lab.events.schema import EventTypes
from mlops_lab.features.in_memory import MemoryRows
from mlops_lab.features.processor import Processor
from mlops_lab.features.rows import Progress
from mlops_lab.features.shard import Shard
from mlops_lab.flights.online_usecase import FlightsOnline
from mlops_lab.flights.source import Year
from stream_builders import facts_of

LATENESS = timedelta(minutes=10)


class Partitioned:
    """A bus whose observations are in six partitions, by key, as on a broker."""

    def __init__(self, inner: SqliteBus) -> None:
        self._inner = inner

    def partitions(self, topic: str) -> int:
        return 6 if topic == OBSERVATIONS else 1

    def publish(self, topic: str, messages: Iterable[Message]) -> int:
        by_partition: dict[int, list[Message]] = {}
        for message in messages:
            by_partition.setdefault(crc32(message.key.encode()) % self.partitions(topic), []).append(message)
        return sum(self._inner.publish(f"{topic}/{partition}", each) for partition, each in by_partition.items())

    def read(self, topic: str, after: int, limit: int = 1000, partition: int = 0) -> Sequence[Delivery]:
        return [replace(each, partition=partition) for each in self._inner.read(f"{topic}/{partition}", after, limit)]

    def head(self, topic: str, partition: int = 0) -> int:
        return self._inner.head(f"{topic}/{partition}")

    def committed(self, group: str, topic: str, partition: int = 0) -> int:
        return self._inner.committed(group, f"{topic}/{partition}")

    def commit(self, group: str, topic: str, offset: int, partition: int = 0) -> None:
        self._inner.commit(group, f"{topic}/{partition}", offset)


@pytest.fixture(scope="module")
def facts(year: Year) -> list[Message]:
    """Eight days of April, in order: several looks at each partition."""
    return facts_of(year, days=8)


@pytest.fixture
def bus(tmp_path: Path) -> Partitioned:
    return Partitioned(SqliteBus(tmp_path / "bus.db"))


def a_processor(bus: Any, store: MemoryRows, shard: Shard | None = None) -> Processor:
    clock = FixedClock(datetime(2026, 1, 1, tzinfo=UTC))
    types = EventTypes(FlightsOnline.event_types)
    return Processor(bus, types, FlightsOnline().row_state, store, clock, lateness=LATENESS, shard=shard)


def absent(bus: Partitioned, published: Sequence[Message], said: Progress) -> set[str]:
    """Facts up to the watermark that are not in: counted from the log and from what the store says, nothing else."""
    there: set[str] = set()
    for partition, offset in enumerate(said.offsets[OBSERVATIONS]):
        there |= {each.message.id for each in bus.read(OBSERVATIONS, 0, 100_000, partition) if each.offset <= offset}
    return {fact.id for fact in published if fact.at.timestamp() <= said.watermark_s and fact.id not in there}


def seconds(moment: datetime) -> int:
    return int(moment.timestamp())


def test_it_holds_at_each_write_while_a_backlog_is_worked_off(bus: Partitioned, facts: list[Message]) -> None:
    bus.publish(OBSERVATIONS, facts)
    store = MemoryRows()
    processor = a_processor(bus, store)
    marks = []
    while processor.step():
        assert store.said is not None
        assert absent(bus, facts, store.said) == set()
        marks.append(store.said.watermark_s)

    assert len(marks) > 2
    assert marks == sorted(marks)
    assert store.said is not None
    assert store.said.watermark_s == seconds(facts[-1].at - LATENESS)
    assert processor.counts.late == 0  # they were in order


def test_it_holds_while_more_is_published(bus: Partitioned, facts: list[Message]) -> None:
    store = MemoryRows()
    processor = a_processor(bus, store)
    for end in range(900, len(facts), 900):
        bus.publish(OBSERVATIONS, facts[end - 900 : end])
        processor.step()
        assert store.said is not None
        assert absent(bus, facts[:end], store.said) == set()


def test_partitions_without_news_do_not_hold_it_back(bus: Partitioned, facts: list[Message]) -> None:
    store = MemoryRows()
    processor = a_processor(bus, store)
    alone = [replace(facts[0], id=f"later-{n}", at=facts[0].at + timedelta(hours=n)) for n in range(3)]
    for fact in alone:
        bus.publish(OBSERVATIONS, [fact])
        while processor.step():
            pass
        assert store.said is not None
        assert store.said.watermark_s == seconds(fact.at - LATENESS)


def test_what_comes_behind_it_is_late_and_counts(bus: Partitioned, facts: list[Message]) -> None:
    held_back, others = facts[1000:1010], facts[:1000] + facts[1010:6000]
    bus.publish(OBSERVATIONS, others)
    store = MemoryRows()
    processor = a_processor(bus, store)
    while processor.step():
        pass
    assert processor.counts.late == 0
    now = facts[5999].at
    late = [replace(fact, at=now - LATENESS - timedelta(seconds=1)) for fact in held_back[:4]]
    in_time = [replace(fact, at=now - LATENESS) for fact in held_back[4:]]
    bus.publish(OBSERVATIONS, [*late, *in_time])
    while processor.step():
        pass
    assert processor.counts.late == len(late)
    assert processor.counts.applied == 6000


def test_it_does_not_go_back_with_a_restart(bus: Partitioned, facts: list[Message]) -> None:
    bus.publish(OBSERVATIONS, facts[:5000])
    store = MemoryRows()
    first = a_processor(bus, store)
    while first.step():
        pass
    assert store.said is not None
    before = store.said.watermark_s
    bus.publish(OBSERVATIONS, facts[5000:])
    second = a_processor(bus, store)
    while second.step():
        assert store.said.watermark_s >= before
        assert absent(bus, facts, store.said) == set()
    assert store.said.watermark_s == seconds(facts[-1].at - LATENESS)


def test_a_shard_that_fills_an_empty_store_writes_its_own_rows_only(bus: Partitioned, facts: list[Message]) -> None:
    """Another one's rows would be put back to what they were when this one last read."""
    bus.publish(OBSERVATIONS, facts[:3000])
    shards = [Shard(number, 2) for number in range(2)]
    for shard in shards:
        processor = a_processor(bus, MemoryRows(), shard)
        while processor.step():
            pass
    for shard in shards:
        emptied = MemoryRows()
        a_processor(bus, emptied, shard).step()
        assert len(emptied.held) > 100
        assert all(shard.has(ref) for ref in emptied.held)
