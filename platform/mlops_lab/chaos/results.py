"""What came out last, kept as a small JSON file, and the page that is written from it."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlops_lab.chaos.fault import Fault, Finding, Result, Size


@dataclass(frozen=True, slots=True)
class Kept:
    """A result as it is kept: with the day, and the commit it was measured on."""

    result: Result
    date: str
    commit: str


def read_results(path: Path) -> dict[str, Kept]:
    """The kept results by fault; none when there is no file."""
    if not path.is_file():
        return {}
    found: dict[str, Kept] = {}
    for entry in json.loads(path.read_text())["results"]:
        finding = Finding(entry["measured"], tuple(entry["broken"]))
        found[entry["id"]] = Kept(
            Result(entry["id"], Size(entry["size"]), entry["seed"], entry["seconds"], finding), entry["date"], entry["commit"]
        )
    return found


def write_results(path: Path, results: Iterable[Kept]) -> None:
    """Add results to the file; each takes the place of the one of its fault."""
    known = read_results(path) | {kept.result.id: kept for kept in results}
    entries = [
        {"id": kept.result.id, "size": str(kept.result.size), "seed": kept.result.seed, "seconds": kept.result.seconds}
        | {"date": kept.date, "commit": kept.commit}
        | asdict(kept.result.finding)
        for kept in known.values()
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"results": entries}, indent=1, ensure_ascii=False) + "\n")


def page(catalogue: Mapping[str, Fault[Any]], results: Mapping[str, Kept], bugs: Iterable[str]) -> str:
    """`platform/docs/faults.md`."""
    lines = [
        "# Faults and promises",
        "",
        "Each promise has a fault that tries to break it, and a checker that reads only what can be seen from outside: the client's own",
        "history of every request, the prediction log's bytes, the ledger, strace, /proc; what was sent, and what lies on topics, in",
        "the online store and in tables. Never a component's own counters. This page is written by `lab chaos --write` from `faults.json`.",
        "`make chaos-short` tries the short form, `make chaos` the long.",
        "",
        "E1 to E4 work with a Kafka broker of this machine that may be killed, and with `redis-server`. For a broker on port 19092:",
        "",
        "```bash",
        "export LAB_EVENTS__KAFKA=127.0.0.1:19092",
        "make chaos-events-short BROKER='/opt/kafka/start-and-wait' BROKER_PID=/opt/kafka/pid   # 3 kills each; `make chaos-events` has 20",
        "```",
        "",
        "`BROKER` is a command of yours that starts it on the data it had and returns when it answers; `BROKER_PID` holds its pid then.",
        "",
        "| id | fault | promise | figure asked | last result | held | form, seed, day | command |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for fault in catalogue.values():
        kept = results.get(fault.id)
        if kept is None:
            last, held, form = "not tried yet", "-", "-"
        else:
            last, held = kept.result.finding.measured, "yes" if kept.result.finding.held else "**no**"
            form = f"{kept.result.size}, {kept.result.seed}, {kept.date} ({kept.commit}), {kept.result.seconds:.0f} s"
        lines.append(f"| {fault.id} | {fault.does} | {fault.promise} | {fault.asked} | {last} | {held} | {form} | `lab chaos {fault.id}` |")
    open_ = [f"- **{kept.result.id}**: {what}" for kept in results.values() for what in kept.result.finding.broken]
    if open_:
        lines += ["", "## What did not hold in the last run", "", *open_]
    lines += ["", "## Bugs found by it", "", *(f"- {bug}" for bug in bugs), ""]
    return "\n".join(lines)
