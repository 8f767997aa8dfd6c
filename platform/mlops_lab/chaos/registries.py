"""F1: the ledger is away while the service answers."""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlops_lab.chaos.away import WAYS, in_each_way
from mlops_lab.chaos.client import Client
from mlops_lab.chaos.fault import Fault, Finding, Size
from mlops_lab.chaos.history import Request, failures, first_after, read_history
from mlops_lab.chaos.load import Plan
from mlops_lab.chaos.replica import Trace, document_of
from mlops_lab.chaos.stored import Stored, read_logs, unlogged
from mlops_lab.chaos.world import Home, World

CALLS_PER_S = 0.1
BACK_S = 16.0
"""A replica that asks every 10 to 13 s hears of a ledger that is back within this."""

_QUIET_S = 0.42
"""System calls on the ledger's file that are closer together belong to one look at it: SQLite asks for a lock again after 0.33 s at most,
a follower after 0.5 s at least."""
_AT = re.compile(r"^\d+ +(\d+\.\d+) ")


@dataclass(frozen=True)
class Outage:
    """One time without the ledger.

    Attributes:
        how: What was done to it.
        down_ns: Since when (monotonic).
        up_ns: Until when.
        calls: When it was looked for meanwhile, in seconds since `down_ns`, from strace.
        ready: What /readyz said at the end of it: status and document.
        port: The replica's.
        version: What was promoted as soon as it was back.
    """

    how: str
    down_ns: int
    up_ns: int
    calls: Sequence[float]
    ready: tuple[int, Any]
    port: int
    version: int


@dataclass(frozen=True)
class Without:
    """The evidence of F1."""

    requests: Sequence[Request]
    stored: Stored
    outages: Sequence[Outage]


def run_serving(world: World, seed: int, size: Size) -> Without:
    """Take the ledger away in three ways while clients ask."""
    parts = in_each_way(world, lambda home, how: _take_away(home, how, seed, size.of(21, 121)))
    stored = Stored()
    for part in parts:
        stored.add(part.stored)
    return Without([request for part in parts for request in part.requests], stored, [part.outages[0] for part in parts])


def _take_away(home: Home, how: str, seed: int, seconds: int) -> Without:
    history, trace = home.path / "history.jsonl", home.path / "strace.txt"
    with home.replica(traced=Trace(trace, "openat,fcntl,pread64")) as replica:
        replica.start()
        plan = Plan((replica.port,), str(history), str(home.bodies), how.replace(" ", "-"), connections=3, pause_ms=10, seed=seed)
        with Client(plan) as client:
            client.await_answers()
            with WAYS[how](home):
                down, wall = time.monotonic_ns(), time.time()
                time.sleep(seconds)
                status, body = replica.get("/readyz")
                calls = looks(trace.read_text(errors="replace"), home.path / "lab.db", wall)
                up = time.monotonic_ns()
            home.promote(2)
            time.sleep(BACK_S)
            client.stop()
        replica.end()
    outage = Outage(how, down, up, calls, (status, document_of(body)), replica.port, 2)
    return Without(read_history(history), read_logs([home.log()]), [outage])


def check_serving(seen: Without) -> Finding:
    """Nothing fails, the state is told, the ledger is not stormed, and it is followed again once it is back."""
    broken = failures(seen.requests) + unlogged(seen.requests, seen.stored)
    most, slowest = 0.0, 0.0
    for outage in seen.outages:
        seconds = (outage.up_ns - outage.down_ns) / 1e9
        allowed = 1 + seconds * CALLS_PER_S  # the first one finds out
        if outage.how != _HARMLESS:
            most = max(most, len(outage.calls) * 10 / seconds)
            if not outage.calls:
                broken += (f"ledger {outage.how}: nothing looked at it, so the fault did not bite",)
        if outage.how != _HARMLESS and len(outage.calls) > allowed:
            at = ", ".join(f"{call:.1f}" for call in outage.calls[:20])
            broken += (f"ledger {outage.how}: {len(outage.calls)} looks at it in {seconds:.0f} s (at {at}), allowed are {allowed:.0f}",)
        status, said = outage.ready
        if status != 200 or (outage.how != _HARMLESS and not tells_of_ledger(said)):
            broken += (f"ledger {outage.how}: /readyz answered {status} and does not tell of it: {said}",)
        found = first_after((r for r in seen.requests if (r.port, r.version) == (outage.port, outage.version)), outage.up_ns)
        took = (found.done_ns - outage.up_ns) / 1e9 if found else float("inf")
        slowest = max(slowest, took)
        if took > BACK_S:
            broken += (f"ledger {outage.how}: version {outage.version} answered {took:.1f} s after it was back, allowed are {BACK_S:.0f}",)
    failed = sum(request.status != 200 for request in seen.requests)
    ways = len(seen.outages)
    measured = f"{ways} ways, {len(seen.requests)} requests, {failed} failed, {most:.1f} calls per 10 s, followed again ≤ {slowest:.1f} s"
    return Finding(measured, broken)


def looks(trace: str, ledger: Path, since: float) -> list[float]:
    """When the ledger's file was looked for, by a trace with wall times: seconds since a moment, one per burst of system calls."""
    found: list[float] = []
    last = float("-inf")
    for line in trace.splitlines():
        if f"/{ledger.name}" not in line:
            continue
        stamp = _AT.match(line)
        if stamp is None:
            continue
        at = float(stamp[1])
        if at >= since and at - last > _QUIET_S:
            found.append(at - since)
        last = at
    return found


def tells_of_ledger(said: Any) -> bool:
    """Whether /readyz names a state of the ledger, wherever in its document."""
    return any(word in str(said).lower() for word in ("ledger", "registry", "lab.db"))


_HARMLESS = "moved away"
"""An open database is still read when its name is gone, so there is nothing to tell."""


F1 = Fault(
    "F1",
    "registry down while serving",
    "The ledger is overwritten, locked by somebody, moved away, while clients ask.",
    "The last known good version serves on, /readyz says so, the ledger is not stormed, and it is followed again once it is back.",
    "0 failed, ≤ 1 registry call per 10 s and worker",
    run_serving,
    check_serving,
    needs=("strace",),
)
