"""What the stream processor costs: events per second on one core, where the time goes, the lag after a burst, memory by row.

`python tests/benchmarks/bench_stream.py [--quick]` prints the page and writes it to results/stream.md, and as JSON beside it; --quick only
prints. Kafka and Redis are measured where the settings name some that answer (LAB_EVENTS__KAFKA, LAB_FEATURES__REDIS); the database of
Redis has to be empty. A few minutes; the quick form takes one.
"""

import os
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # the parts of the benchmark

from benchmarks.stream.material import PAIRS, Pair, facts, opened, redis_of
from benchmarks.stream.measures import Burst, Memory, Throughput, burst, memory, throughput
from benchmarks.stream.page import page, write
from mlops_lab.bootstrap.services import QUIET
from mlops_lab.errors import LabError
from mlops_lab.features.rows import Progress, RowRef
from mlops_lab.settings import Settings, load_settings

FULL = {"flow": 200_000, "warm": 20_000, "burst": 50_000, "rows": 250_000}
QUICK = {"flow": 20_000, "warm": 3_000, "burst": 5_000, "rows": 20_000}
PART = 10_000


def main() -> int:
    os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
    quick = "--quick" in sys.argv[1:]
    sizes, settings = QUICK if quick else FULL, load_settings()
    material = facts(settings.data, max(sizes["flow"], sizes["warm"] + sizes["burst"]))
    flows: list[Throughput] = []
    bursts: list[Burst] = []
    missing: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        used = in_memory(settings, Path(folder), sizes, missing)  # first: what others have used is not given back
        for number, pair in enumerate(PAIRS):
            try:
                with opened(pair, settings, Path(folder) / f"flow-{number}") as place:
                    flows.append(throughput(pair, place, material[: sizes["flow"]]))
                print(f"{flows[-1].pair}: {flows[-1].per_cpu_s:,.0f} events per CPU second", flush=True)
                with opened(pair, settings, Path(folder) / f"burst-{number}") as place:
                    warm, sent = material[: sizes["warm"]], material[sizes["warm"] : sizes["warm"] + sizes["burst"]]
                    bursts.append(burst(pair, place, warm, sent, Path(folder)))
                print(f"{bursts[-1].pair}: caught up after {bursts[-1].caught_up_s:.1f} s", flush=True)
            except LabError as error:
                missing.append(f"{pair.name}: {error.what}")
    print((page if quick else write)(flows, bursts, used, missing))
    return 0


def in_memory(settings: Settings, folder: Path, sizes: Mapping[str, int], missing: list[str]) -> Memory:
    """Of the fold, and of Redis where one answers."""
    window = facts(settings.data, 6_000)
    with ExitStack() as stack:
        try:
            place = stack.enter_context(opened(Pair("embedded", "redis"), settings, folder / "memory"))
        except LabError as error:
            missing.append(f"memory of Redis: {error.what}")
            return memory(window, sizes["rows"], None)
        server = stack.enter_context(redis_of(settings))

        def stored(rows: Mapping[RowRef, bytes]) -> float:
            before = server.info("memory")["used_memory"]
            every = list(rows.items())
            for start in range(0, len(every), PART):
                place.store.write(dict(every[start : start + PART]), Progress({}, 0, 0.0, "bench"))
            return float(server.info("memory")["used_memory"] - before)

        return memory(window, sizes["rows"], stored)


if __name__ == "__main__":
    sys.exit(main())
