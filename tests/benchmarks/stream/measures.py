"""The measures: events per second and where the time goes, the lag after a burst, memory by row."""

import gc
import os
import resource
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from benchmarks.stream.material import Pair, Place, elsewhere, publish
from benchmarks.stream.publisher import publisher
from mlops_lab.events import OBSERVATIONS, Message
from mlops_lab.features.processor import Processor
from mlops_lab.features.rows import RowRef
from mlops_lab.flights.online_usecase import FlightsOnline

LOOK_EVERY_S = 0.1


@dataclass
class Throughput:
    """One backlog, worked off. Shares of wall time by what it was spent on."""

    pair: str
    events: int
    wall_s: float
    cpu_s: float
    rows: int
    shares: dict[str, float] = field(default_factory=dict)

    @property
    def per_s(self) -> float:
        return self.events / self.wall_s

    @property
    def per_cpu_s(self) -> float:
        """What one core could do if it waited for nobody."""
        return self.events / self.cpu_s


@dataclass
class Burst:
    """Events published at once by another process while the processor was idle."""

    pair: str
    events: int
    published_s: float
    caught_up_s: float
    most_behind: int


@dataclass
class Memory:
    """Of rows; bytes by row."""

    rows: int
    facts_by_row: float
    fold_bytes: float
    row_bytes: float
    store_bytes: float | None


def cpu_s() -> float:
    """Of this process, all threads: the client of a broker has its own."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def run(processor: Processor) -> int:
    passed = 0
    while taken := processor.step():
        passed += taken
    return passed


def throughput(pair: Pair, place: Place, facts: Sequence[Message]) -> Throughput:
    """A backlog once at full speed, then the same again with a stopwatch at each seam."""
    publish(place, OBSERVATIONS, facts)
    began, before = time.perf_counter(), cpu_s()
    processor = place.processor()
    passed = run(processor)
    done = Throughput(pair.name, passed, time.perf_counter() - began, cpu_s() - before, sum(processor.by_view().values()))
    for partition in range(place.lab.bus.partitions(OBSERVATIONS)):
        place.lab.bus.commit(processor.group, OBSERVATIONS, 0, partition)
    done.shares = _shares(place)
    return done


class Timed:
    """Stands before a part, and adds up what its methods take."""

    def __init__(self, inner: Any, names: dict[str, str], spent: dict[str, float]) -> None:
        self._inner, self._names, self._spent = inner, names, spent

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name not in self._names:
            return found
        what, spent = self._names[name], self._spent

        def call(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return found(*args, **kwargs)
            finally:
                spent[what] += time.perf_counter() - began

        setattr(self, name, call)
        return call


def _shares(place: Place) -> dict[str, float]:
    spent: dict[str, float] = defaultdict(float)
    bus = Timed(place.lab.bus, {"read": "reading the log", "commit": "committing", "committed": "committing"}, spent)
    types = Timed(place.lab.event_types, {"checked": "checking schemas"}, spent)
    writer = Timed(place.store, {"write": "writing rows", "progress": "writing rows"}, spent)

    def state() -> Any:
        return Timed(FlightsOnline().row_state(), {"apply": "folding", "changed": "packing rows"}, spent)

    began = time.perf_counter()
    run(place.processor(bus=bus, types=types, writer=writer, new_state=state))
    whole = time.perf_counter() - began
    return {what: took / whole for what, took in sorted(spent.items(), key=lambda each: -each[1])} | {
        "the rest": max(0.0, 1 - sum(spent.values()) / whole)
    }


def burst(pair: Pair, place: Place, warm: Sequence[Message], sent: Sequence[Message], home: Path) -> Burst:
    """From the first event that another process publishes to the last row that is written."""
    publish(place, OBSERVATIONS, warm)
    processor = place.processor()
    run(processor)
    with publisher(place, sent, home) as child:
        passed, behind, looked = 0, 0, 0.0
        began = time.perf_counter()
        child.go()
        while passed < len(sent):
            passed += processor.step()
            if time.perf_counter() - looked > LOOK_EVERY_S:
                looked = time.perf_counter()
                behind = max(behind, sum(map(sum, processor.lag().values())))
        caught_up_s = time.perf_counter() - began
        return Burst(pair.name, passed, child.took_s(), caught_up_s, behind)


def memory(facts: Sequence[Message], wanted: int, write: Callable[[Mapping[RowRef, bytes]], float] | None) -> Memory:
    """The last 36 hours of some facts, repeated in other worlds until there are so many rows.

    Args:
        facts: In order.
        wanted: Rows, at least.
        write: Puts rows into a store and returns the bytes by which it has grown.
    """
    window = [fact for fact in facts if fact.at > facts[-1].at - timedelta(hours=36)]
    one = FlightsOnline().row_state()
    one.apply(window)
    worlds = -(-wanted // len(list(one.refs())))
    del one
    gc.collect()
    before = resident_bytes()
    state = FlightsOnline().row_state()
    for world in range(worlds):
        state.apply(elsewhere(fact, world) for fact in window)
    state.changed()
    gc.collect()
    grown = resident_bytes() - before
    rows = state.rows()
    taken = write(rows) if write is not None else None
    return Memory(
        rows=len(rows),
        facts_by_row=len(window) * worlds / len(rows),
        fold_bytes=grown / len(rows),
        row_bytes=sum(map(len, rows.values())) / len(rows),
        store_bytes=None if taken is None else taken / len(rows),
    )


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
