"""The stream processor: whatever repeats, comes in disorder or is none, the rows in the store are those of the facts that were sent."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from mlops_lab.errors import BusUnreachable
from mlops_lab.events import OBSERVATIONS, REFERENCES, Message
from mlops_lab.events.dead import dead_letters
from mlops_lab.events.on_sqlite import SqliteBus
from mlops_lab.features.in_memory import MemoryRows
from mlops_lab.features.rows import RowRef
from mlops_lab.features.shard import Shard
from mlops_lab.flights.facts import OBSERVED
from processor_builders import NOW, a_processor, run
from stream_builders import in_disorder, rows_of


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
