"""F1 and F2: the ledger is away, while serving and at a start."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from mlops_lab.chaos.client import Client
from mlops_lab.chaos.fault import Fault, Finding, Size
from mlops_lab.chaos.history import Request, failures, first_after, read_history
from mlops_lab.chaos.load import Plan
from mlops_lab.chaos.replica import Trace
from mlops_lab.chaos.stored import Stored, read_logs, unlogged
from mlops_lab.chaos.world import Home, World

CALLS_PER_S = 0.1
BACK_S = 12.0
"""A replica that asks every 10 s hears of a ledger that is back within this."""

_QUIET_S = 0.3  # system calls on the ledger's file that are closer together than this belong to one look at it
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
        version: What was promoted as soon as it was back.
    """

    how: str
    down_ns: int
    up_ns: int
    calls: Sequence[float]
    ready: tuple[int, Any]
    version: int


@dataclass(frozen=True)
class Without:
    """The evidence of F1."""

    requests: Sequence[Request]
    stored: Stored
    outages: Sequence[Outage]


def run_serving(world: World, seed: int, size: Size) -> Without:
    """Take the ledger away in three ways, one after the other, while clients ask."""
    home = world.home()
    history, trace = home.path / "history.jsonl", home.path / "strace.txt"
    outages = []
    with home.replica(traced=Trace(trace, "openat,fcntl,pread64")) as replica:
        replica.start()
        with Client(Plan((replica.port,), str(history), str(home.bodies), connections=4, pause_ms=5, seed=seed)) as client:
            client.await_answers()
            for number, (how, away) in enumerate(_WAYS.items()):
                with away(home):
                    down, wall = time.monotonic_ns(), time.time()
                    time.sleep(size.of(21, 61))
                    status, body = replica.get("/readyz")
                    calls = looks(trace.read_text(errors="replace"), home.path / "lab.db", wall)
                    up = time.monotonic_ns()
                version = (number + 1) % 3 + 1
                home.promote(version)
                outages.append(Outage(how, down, up, calls, (status, _read(body)), version))
                time.sleep(BACK_S)
            client.stop()
        replica.end()
    return Without(read_history(history), read_logs([home.log()]), outages)


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
            broken += (f"ledger {outage.how}: {len(outage.calls)} looks at it in {seconds:.0f} s, allowed are {allowed:.0f}",)
        status, said = outage.ready
        if status != 200 or (outage.how != _HARMLESS and not tells_of_ledger(said)):
            broken += (f"ledger {outage.how}: /readyz answered {status} and does not tell of it: {said}",)
        found = first_after((r for r in seen.requests if r.version == outage.version), outage.up_ns)
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


def _read(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return body.decode("utf-8", "replace")


@contextmanager
def moved_away(home: Home) -> Iterator[None]:
    """The ledger's files are somewhere else. A process that has them open still reads them; one that starts finds nothing."""
    aside = home.path / "away"
    aside.mkdir()
    for path in home.path.glob("lab.db*"):
        path.rename(aside / path.name)
    try:
        yield
    finally:
        for path in home.path.glob("lab.db*"):  # what somebody made in its place
            path.unlink()
        for path in aside.iterdir():
            path.rename(home.path / path.name)
        aside.rmdir()


@contextmanager
def overwritten(home: Home) -> Iterator[None]:
    """The ledger's files are there and open, and what is in them is no database."""
    files = {path: path.read_bytes() for path in home.path.glob("lab.db*")}
    for path, content in files.items():
        _put(path, b"\xa5" * min(len(content), 65536))  # in place and no shorter: the process has them open and mapped
    try:
        yield
    finally:
        for path, content in files.items():
            # The index of the write-ahead log is left without a header, so that the next reader makes it anew.
            _put(path, bytes(136) if path.name.endswith("-shm") else content)


@contextmanager
def locked(home: Home) -> Iterator[None]:
    """Another process holds every lock that a reader needs."""
    holder = subprocess.Popen([sys.executable, "-c", _HOLD, str(home.path / "lab.db-shm")], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        yield
    finally:
        holder.kill()
        holder.communicate()


_HOLD = """
import fcntl, sys
file = open(sys.argv[1], "r+b")
fcntl.lockf(file, fcntl.LOCK_EX, 8, 120)  # SQLite's eight locks on a write-ahead log
print("held", flush=True)
sys.stdin.read()
"""


def _put(path: Path, content: bytes) -> None:
    with path.open("r+b") as file:
        file.write(content)


_WAYS = {"overwritten": overwritten, "locked": locked, "moved away": moved_away}
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
