"""What Feast's push costs: rows per second into SQLite and Redis by the size of a batch, beside the write below it.

`python tests/benchmarks/bench_push.py [--write]` prints the table; --write puts it into results/push.md too. Redis is measured where
LAB_TEST_REDIS names one that answers; what the benchmark writes there is removed again. Half a minute.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from feast.data_source import PushMode

from mlops_lab.features.on_feast import CREATED_AT, EVENT_AT, FeastStore, push_source
from mlops_lab.features.on_redis import RedisProgress
from mlops_lab.features.on_sqlite import FILE, SqliteProgress
from mlops_lab.features.redis_address import Address
from mlops_lab.features.rows import components_of
from mlops_lab.flights.online_usecase import FlightsOnline
from mlops_lab.flights.rows import AIRCRAFT

RESULT = Path(__file__).parent / "results" / "push.md"
BATCHES = {1: 21, 30: 21, 300: 15, 3000: 7}
"""Rows of a batch, and how often it is written."""

ROW_BYTES = 8 + 10 * 8
"""A header and ten facts: an aircraft's day."""


class Cost(NamedTuple):
    """Of one batch, medians."""

    store: str
    call: str
    rows: int
    wall_ms: float
    cpu_ms: float


def main() -> int:
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for name, online, progress in places(Path(folder)):
            with closing(FeastStore(Path(folder) / name, FlightsOnline(), online, progress)) as store:
                try:
                    found += list(costs(name, store))
                finally:
                    if isinstance(online, Address):
                        store.opened().teardown()
    text = page(found)
    print(text)
    if "--write" in sys.argv[1:]:
        RESULT.write_text(text, encoding="utf-8")
    return 0


def places(folder: Path) -> Iterator[tuple[str, Path | Address, SqliteProgress | RedisProgress]]:
    yield "SQLite", folder / FILE, SqliteProgress(folder / FILE)
    if url := os.environ.get("LAB_TEST_REDIS"):
        yield "Redis", Address.of(url), RedisProgress(Address.of(url))


def costs(name: str, store: FeastStore) -> Iterator[Cost]:
    feast = store.opened()
    for rows, times in BATCHES.items():
        batch = pd.DataFrame({AIRCRAFT.join_keys[0]: [f"N{number:05d}" for number in range(rows)]})
        batch[components_of(AIRCRAFT.name)] = [os.urandom(ROW_BYTES) for _ in range(rows)]

        def stamped(batch: pd.DataFrame = batch) -> pd.DataFrame:
            now = pd.Timestamp.now(tz="UTC")
            return batch.assign(**{EVENT_AT: now, CREATED_AT: now})

        calls: dict[str, Callable[[], None]] = {
            "push": lambda: feast.push(push_source(AIRCRAFT.name), stamped(), to=PushMode.ONLINE),
            "write_to_online_store": lambda: feast.write_to_online_store(AIRCRAFT.name, stamped()),
        }
        for call, write in calls.items():
            write()
            took = [timed(write) for _ in range(times)]
            wall, cpu = (statistics.median(each) * 1000 for each in zip(*took, strict=True))
            yield Cost(name, call, rows, wall, cpu)


def timed(call: Callable[[], None]) -> tuple[float, float]:
    """Seconds by the clock, and of this process's CPU."""
    began, used = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - began, time.process_time() - used


def page(found: list[Cost]) -> str:
    lines = [
        "# What Feast's push costs",
        "",
        f"Rows of {ROW_BYTES} bytes of one view, medians. `write_to_online_store` is what `push` calls for each view of its source.",
        "CPU time is that of the writer; the clock's depends on what else the machine does.",
        "",
        "| store | call | rows of a batch | ms | CPU ms | rows per CPU second |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for each in found:
        per_s = each.rows / each.cpu_ms * 1000
        lines.append(f"| {each.store} | `{each.call}` | {each.rows:,} | {each.wall_ms:.1f} | {each.cpu_ms:.1f} | {per_s:,.0f} |")
    return "\n".join([*lines, "", "Made by `tests/benchmarks/bench_push.py --write`."]) + "\n"


if __name__ == "__main__":
    sys.exit(main())
