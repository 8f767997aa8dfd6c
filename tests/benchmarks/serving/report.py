"""The result: `serving.json` with every round, and `serving.md` for people."""

import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.serving.figures import GOALS, Spread

SATURATED, QUIET = 0.1, 0.15
"""Shares of the servers' core: idle at most so much, taken by others at most so much."""

PACKAGES = ("uvicorn", "uvloop", "httptools", "fastapi", "pydantic", "orjson", "numpy", "scikit-learn", "mlflow")
NAMES = {
    "default": "**this service**",
    "echo": "FastAPI + pydantic echo, no model",
    "hello": "raw ASGI hello on uvicorn",
    "mlflow": "`mlflow models serve`",
    "disk": "`durability=disk`",
    "shadow": "shadow on 10 %",
    "canary": "canary on 10 %",
}


def about_this_machine(root: Path) -> dict[str, Any]:
    """What a reader has to know to repeat the run, taken before the run puts load on the machine."""
    command = ["git", "describe", "--always", "--abbrev=12", "--dirty", "--exclude=*"]
    commit = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit or "unknown",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": {name: version(name) for name in PACKAGES},
        "load_average_before": round(os.getloadavg()[0], 2),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def write(folder: Path, results: Mapping[str, Any], machine: Mapping[str, Any]) -> None:
    """Both files, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {name: _rounded(value) for name, value in {**results, "machine": dict(machine)}.items()}
    for name, text in (("serving.json", json.dumps(document, indent=1) + "\n"), ("serving.md", page(document, document["machine"]))):
        aside = folder / f".{name}"
        aside.write_text(text)
        aside.replace(folder / name)


def page(results: Mapping[str, Any], machine: Mapping[str, Any]) -> str:
    """The Markdown page."""
    return "\n".join([*_head(machine), *_goals(results), *_servers(results), *_modes(results), *_inside(results), *_proof(results), ""])


def _head(machine: Mapping[str, Any]) -> Iterable[str]:
    yield "# Serving beside `mlflow models serve` and a FastAPI echo"
    yield ""
    if machine.get("quick"):
        yield "**A quick run that only tries the harness: no figure on this page means anything.**"
        yield ""
    yield (
        f"`make bench` on {machine['measured_at'][:10]}, commit {machine['commit']}: {machine['python']}, {machine['processor']}, "
        f"{machine['cores']} cores, {machine['system']}; load average before it {machine['load_average_before']}, "
        f"{machine['took_s']:.0f} s in all."
    )
    yield ", ".join(f"{name} {number}" for name, number in machine["packages"].items()) + "."
    yield ""
    yield "Every server runs on the second core with the same interpreter, one worker and `OMP_NUM_THREADS=1`. The load comes from the"
    yield "first core, over connections that are kept open, each with one request under way, with 512 different flights. Ours validates,"
    yield "reads the feature state, scores, logs each answer before it is sent, counts, and gives ids: it is the process that `lab up`"
    yield "starts. MLflow has the same fit and gets the features that ours computed and logged for the same flights. Servers take turns,"
    yield "MLflow in every other round; a ratio is the median over rounds of neighbours in time, with the smallest and the largest."
    yield ""


def _goals(results: Mapping[str, Any]) -> Iterable[str]:
    rows = []
    for goal in GOALS:
        if goal.key not in results:
            rows.append([goal.what, _bound(goal.reach, goal.at_most, goal.unit), "not measured", "", "no", ""])
            continue
        value, spread = results[goal.key], results["spread"].get(goal.key)
        between = f"{_number(spread['smallest'])} to {_number(spread['largest'])}" if spread else ""
        stretched = goal.stretched(value)
        beyond = "" if stretched is None or goal.stretch is None else f"{_number(goal.stretch)}: {'yes' if stretched else 'no'}"
        reached = "yes" if goal.reached(value) else "**no**"
        rows.append([goal.what, _bound(goal.reach, goal.at_most, goal.unit), f"**{_number(value)}**", between, reached, beyond])
    yield from _table(["figure", "reach", "measured", "rounds", "reached", "stretch"], rows)


def _servers(results: Mapping[str, Any]) -> Iterable[str]:
    for load, title in (
        ("c8", "One row, 8 connections"),
        ("c1", "One row, 1 connection"),
        ("batch64", "64 rows, 8 connections (requests, not rows)"),
    ):
        yield f"## {title}"
        yield ""
        yield from _rounds(results["rounds"][load])
    yield "## Start and memory"
    yield ""
    starts, memory = results["first_answer_s"], results["resident_mib"]
    rows = []
    for name in ("default", "echo", "mlflow"):
        one = starts["ours" if name == "default" else name]
        rows.append([NAMES[name], f"{one['median']:.2f}", f"{one['smallest']:.2f} to {one['largest']:.2f}", f"{memory[name]:.0f}"])
    yield from _table(["server", "first answer after process start, s", f"{len(one['rounds'])} starts", "resident after load, MiB"], rows)
    yield "Memory is summed over a server's processes."
    yield ""


def _modes(results: Mapping[str, Any]) -> Iterable[str]:
    yield "## What more safety and trials cost"
    yield ""
    rows = []
    for name in results["rounds"]["modes"]:
        if name == "default":
            continue
        rate, tail = results["spread"][f"{name}_to_default_c8"], results["spread"][f"{name}_p99_to_default_c8"]
        proof = results["evidence"][name]
        dealt = f"{proof[f'{name}_share']:.1%}" if name in ("shadow", "canary") else ""
        rows.append([NAMES[name], _spread(rate), _spread(tail), dealt])
    yield from _table(["mode", "answers per second, to the default", "p99, to the default", "share of rows, from the log"], rows)
    if results["modes_left_out"]:
        yield f"Left out, because the log shows that nothing was dealt to it: {', '.join(results['modes_left_out'])}."
        yield ""
    yield from _rounds(results["rounds"]["modes"])


def _inside(results: Mapping[str, Any]) -> Iterable[str]:
    inside = results["inside"]
    stages, whole = inside["us"], inside["cpu_us"]
    rest = whole - sum(stages.values())
    plain = Spread.over([one["cpu_us"] for one in results["rounds"]["c8"]["default"]]).median
    yield "## Where a request's time goes"
    yield ""
    yield "One row, 8 connections, the service with a stopwatch around its functions: the own time of each, per request. The last line is"
    yield f"the processor time of the whole process, under the stopwatch; without it a request takes {plain:.0f} µs."
    yield f"On average {inside['requests_per_turn']:.1f} requests shared a turn, and with it one look at the bus and one write to the log."
    yield ""
    if rest < 0:
        yield "**The stages waited for a processor that others used: take their order from this table, not their size.**"
        yield ""
    rows = [[stage, f"{took:.1f}", f"{took / whole:.0%}"] for stage, took in stages.items()]
    rows.append(["event loop, reading from sockets, the interpreter's own work", f"{rest:.1f}", f"{rest / whole:.0%}"])
    rows.append(["**the process**", f"**{whole:.1f}**", "100%"])
    yield from _table(["stage", "µs", "share"], rows)


def _proof(results: Mapping[str, Any]) -> Iterable[str]:
    parity = results["parity"]
    yield "## Why these figures count"
    yield ""
    yield (
        f"- Before anything was timed, ours and MLflow answered {parity['flights']} flights alike ({parity['one_by_one']} of them one by "
        f"one; {parity['with_a_null']} with a missing value, some with categories never seen): largest difference "
        f"{parity['largest_difference']:.1e}."
    )
    for name, proof in results["evidence"].items():
        again = f"a restart answered after {proof['again_after_kill_s']:.1f} s"
        yield (
            f"- {NAMES[name]}: every one of {proof['answers']:,} answers is in the prediction log exactly once with its probability; so "
            f"are the {proof['answers_before_kill']:,} given under load before a `kill -9` ({again})."
        )
    busy = [one for name in ("default", "echo") for one in results["rounds"]["c8"][name]]
    idle, others, load = (max(one[what] for one in busy) for what in ("idle_share", "others_share", "load_share"))
    yield (
        f"- {'The load saturated the servers' if idle <= SATURATED else '**The load did not saturate the servers**'}: at 8 connections "
        f"the core of ours and of the echo was idle for at most {idle:.0%} of a round, and the load used at most {load:.0%} of its own."
    )
    yield (
        f"- {'The machine was quiet' if others <= QUIET else '**The machine was not quiet, so take the spreads seriously**'}: at most "
        f"{others:.0%} of the servers' core went to anything else, the kernel's network work included."
    )
    yield ""
    yield "Again: `make bench` (about five minutes; nothing else should run), or `make bench ARGS=--quick` to try the harness."


def _rounds(by_name: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterable[str]:
    rows = []
    for name, rounds in by_name.items():
        per_s = Spread.over([one["per_s"] for one in rounds])
        rows.append(
            [
                NAMES[name],
                f"{per_s.median:,.0f}",
                f"{per_s.smallest:,.0f} to {per_s.largest:,.0f}",
                *(f"{Spread.over([one[what] for one in rounds]).median:,.2f}" for what in ("p50_ms", "p99_ms")),
                f"{Spread.over([one['cpu_us'] for one in rounds]).median:,.0f}",
                f"{Spread.over([one['server_share'] for one in rounds]).median:.0%}",
            ]
        )
    yield from _table(["server", "answers/s", "rounds", "p50 ms", "p99 ms", "CPU µs per request", "of its core"], rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterable[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + " --- |" * len(head)
    for row in rows:
        yield "| " + " | ".join(row) + " |"
    yield ""


def _bound(value: float, at_most: bool, unit: str) -> str:
    return f"{'≤' if at_most else '≥'} {_number(value)} {unit}"


def _spread(one: Mapping[str, Any]) -> str:
    return f"**{_number(one['median'])}** ({_number(one['smallest'])} to {_number(one['largest'])})"


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"


def _rounded(value: Any) -> Any:
    """Floats with six significant digits: more would be noise, and changes every line of a diff all the same."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {name: _rounded(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    return value
