"""The page of figures, and the same for programs."""

import json
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.stream.measures import Burst, Memory, Throughput

RESULTS = Path(__file__).parents[1] / "results"


def page(flows: Sequence[Throughput], bursts: Sequence[Burst], memory: Memory, missing: Sequence[str]) -> str:
    """Markdown."""
    lines = [
        "# What the stream processor costs",
        "",
        "Written by `make bench-parts` (`tests/benchmarks/bench_stream.py`). Facts are those of the real year, in order; one process takes",
        f"them in, on {platform.machine()}, Python {sys.version.split()[0]}. The broker and the store have the other cores.",
        "",
        "## Events per second",
        "",
        "A backlog is worked off. Per second of wall time it waits for the parts too; per CPU second is what one core could do.",
        "",
        "| bus and store | events | per second | per CPU second | rows | where the time goes |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for flow in flows:
        shares = ", ".join(f"{what} {share:.0%}" for what, share in flow.shares.items() if share >= 0.01)
        lines.append(f"| {flow.pair} | {flow.events:,} | {flow.per_s:,.0f} | {flow.per_cpu_s:,.0f} | {flow.rows:,} | {shares} |")
    lines += [
        "",
        "## Lag after a burst",
        "",
        "Another process publishes at once what the processor did not expect. Caught up is when the last row is written.",
        "",
        "| bus and store | events | published within | caught up after | most behind |",
        "| --- | --- | --- | --- | --- |",
    ]
    for one in bursts:
        lines.append(f"| {one.pair} | {one.events:,} | {one.published_s:.1f} s | {one.caught_up_s:.1f} s | {one.most_behind:,} events |")
    lines += [
        "",
        "## Memory",
        "",
        f"{memory.rows:,} rows: the last 36 hours of New York, repeated under other names. {memory.facts_by_row:.1f} facts for each row.",
        "",
        "| | bytes by row | by a million rows |",
        "| --- | --- | --- |",
        _memory("state of the processor", memory.fold_bytes),
        _memory("a row itself", memory.row_bytes),
    ]
    if memory.store_bytes is not None:
        lines.append(_memory("Redis (used_memory), keys and Feast's own fields included", memory.store_bytes))
    lines += ["", *(f"Not measured: {why}" for why in missing)]
    return "\n".join(lines).rstrip() + "\n"


def _memory(what: str, by_row: float) -> str:
    return f"| {what} | {by_row:,.0f} | {by_row * 1e6 / 2**20:,.0f} MiB |"


def write(flows: Sequence[Throughput], bursts: Sequence[Burst], memory: Memory, missing: Sequence[str]) -> str:
    """Both files; returns the page."""
    text = page(flows, bursts, memory, missing)
    figures = {
        "throughput": [asdict(flow) | {"per_s": flow.per_s, "per_cpu_s": flow.per_cpu_s} for flow in flows],
        "bursts": [asdict(one) for one in bursts],
        "memory": asdict(memory),
        "not_measured": list(missing),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "stream.md").write_text(text, encoding="utf-8")
    (RESULTS / "stream.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return text
