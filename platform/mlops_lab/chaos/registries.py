"""F1 and F2: the ledger is away, while serving and at a start."""

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from mlops_lab.chaos.client import Client
from mlops_lab.chaos.fault import Fault, Finding, Size
from mlops_lab.chaos.history import Request, failures, first_after, read_history
from mlops_lab.chaos.load import Plan
from mlops_lab.chaos.replica import Replica, Trace
from mlops_lab.chaos.stored import Stored, read_logs, unlogged
from mlops_lab.chaos.world import Home, World

CALLS_PER_S = 0.1
BACK_S = 12.0
"""A replica that asks every 10 s hears of a ledger that is back within this."""

STARTS_S = 5.0

RECOVERS_S = 20.0

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
    """Take the ledger away in three ways while clients ask; each in a home of its own, beside each other, since most of it is waiting."""
    homes = [world.home() for _ in _WAYS]
    with ThreadPoolExecutor(len(homes)) as pool:
        parts = list(pool.map(lambda home, how: _take_away(home, how, seed, size.of(21, 121)), homes, _WAYS))
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
            with _WAYS[how](home):
                down, wall = time.monotonic_ns(), time.time()
                time.sleep(seconds)
                status, body = replica.get("/readyz")
                calls = looks(trace.read_text(errors="replace"), home.path / "lab.db", wall)
                up = time.monotonic_ns()
            home.promote(2)
            time.sleep(BACK_S)
            client.stop()
        replica.end()
    outage = Outage(how, down, up, calls, (status, _read(body)), replica.port, 2)
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


@dataclass(frozen=True)
class Start:
    """One start without the ledger.

    Attributes:
        how: What the replica had in its cache, and what was wrong with it.
        usable: Whether it may serve from that.
        answered_s: Seconds to the first prediction answered with 200 before the ledger was back; infinite if none was.
        alive: /healthz at the end of the time without it.
        ready: /readyz at the same moment.
        predicted: Status of a prediction at the same moment.
        recovered_s: Seconds from the ledger's return to the first 200; infinite if there was none.
    """

    how: str
    usable: bool
    answered_s: float
    alive: int
    ready: int
    predicted: int
    recovered_s: float


def run_starts(world: World, seed: int, size: Size) -> list[Start]:
    """Start with a good cache, a forgotten one, one that is too old, one with a wrong signature, and with none."""
    starts: list[Start] = []
    useless = [how for how, (_, usable) in _CACHES.items() if not usable]
    for _ in range(size.of(1, 5)):
        # What has to be quick has the machine to itself; the others wait most of the time, beside each other.
        starts += [_start(world.home(), how) for how, (_, usable) in _CACHES.items() if usable]
        homes = [world.home() for _ in useless]
        with ThreadPoolExecutor(len(homes)) as pool:
            starts += pool.map(_start, homes, useless)
    return starts


def _start(home: Home, how: str) -> Start:
    spoil, usable = _CACHES[how]
    body = home.bodies.read_bytes().splitlines()[0]
    with home.replica() as before:
        before.start()
        time.sleep(0.5)  # until it has written what it knows
        before.end()
    with ExitStack() as away:
        settings = spoil(home)
        away.enter_context(moved_away(home))
        away.enter_context(store_away(home))
        with home.replica(**settings) as replica:  # type: ignore[arg-type]  # none of them is a parameter of its own
            replica.spawn()
            _await_life(replica)
            answered = _seconds_to_answer(replica, body, STARTS_S if usable else 2.0)
            alive, ready, predicted = replica.get("/healthz")[0], replica.get("/readyz")[0], replica.predict(body)[0]
            away.close()
            back = time.monotonic()
            recovered = _seconds_to_answer(replica, body, RECOVERS_S + 1) - (back - replica.started_ns / 1e9)
            replica.end()
    return Start(how, usable, answered, alive, ready, predicted, recovered)


def check_starts(seen: Sequence[Start]) -> Finding:
    """From a usable cache at once; from any other alive, not ready, and by itself when the ledger is back."""
    broken: tuple[str, ...] = ()
    for start in seen:
        if start.usable and start.answered_s > STARTS_S:
            broken += (f"{start.how}: answered after {start.answered_s:.1f} s, allowed are {STARTS_S:.0f}",)
        if not start.usable and start.answered_s < float("inf"):
            broken += (f"{start.how}: it answered all the same",)
        if start.alive != 200:
            broken += (f"{start.how}: /healthz answered {start.alive or 'nothing'}",)
        wanted = 200 if start.usable else 503
        if (start.ready, start.predicted) != (wanted, wanted):
            said = f"/readyz answered {start.ready or 'nothing'} and a prediction {start.predicted or 'nothing'}"
            broken += (f"{start.how}: {said}, not {wanted}",)
        if start.recovered_s > RECOVERS_S:
            broken += (f"{start.how}: {start.recovered_s:.1f} s after the ledger was back it did not answer",)
    if not seen or {start.usable for start in seen} != {True, False}:
        broken += ("both kinds of cache have to be tried",)
    ready = max((start.answered_s for start in seen if start.usable), default=float("inf"))
    recovered = max((start.recovered_s for start in seen), default=float("inf"))
    return Finding(f"{len(seen)} starts, ready ≤ {ready:.1f} s from a good cache, recovered ≤ {recovered:.1f} s from the others", broken)


def _await_life(replica: Replica, within_s: float = 30.0) -> None:
    """Until /healthz answers, or much too long."""
    while replica.get("/healthz")[0] != 200 and replica.seconds < within_s:
        time.sleep(0.02)


def _seconds_to_answer(replica: Replica, body: bytes, within_s: float) -> float:
    """Since the start of the process; infinite if there is no 200 in so many seconds from now."""
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        if replica.predict(body)[0] == 200:
            return replica.seconds
        time.sleep(0.02)
    return float("inf")


@contextmanager
def store_away(home: Home) -> Iterator[None]:
    """The package store is gone."""
    packages, aside = home.path / "packages", home.path / "packages-gone"
    packages.rename(aside)
    try:
        yield
    finally:
        shutil.rmtree(packages, ignore_errors=True)  # what somebody made in its place
        aside.rename(packages)


def _sound(home: Home) -> dict[str, float]:
    return {}


def _too_old(home: Home) -> dict[str, float]:
    time.sleep(1.2)
    return {"known_max_age_s": 1}


def _wrong_signature(home: Home) -> dict[str, float]:
    for path in (home.path / "serving" / "replica-1" / "cache").glob("*/signature"):
        path.write_bytes(bytes(64))
    return {}


def _changed_scorer(home: Home) -> dict[str, float]:
    for path in (home.path / "serving" / "replica-1" / "cache").glob("*/scorer.json"):
        content = path.read_bytes()
        path.write_bytes(content.replace(b"1", b"2", 1))
    return {}


def _nothing(home: Home) -> dict[str, float]:
    shutil.rmtree(home.path / "serving" / "replica-1" / "cache")
    return {}


_CACHES: dict[str, tuple[Callable[[Home], dict[str, float]], bool]] = {
    "a sound cache": (_sound, True),
    "a cache that is too old": (_too_old, False),
    "a cache with a wrong signature": (_wrong_signature, False),
    "a cache with a changed scorer": (_changed_scorer, False),
    "an empty cache": (_nothing, False),
}


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
F2 = Fault(
    "F2",
    "registry down at start",
    "The service starts while ledger and store are gone, with a sound cache, one that is too old, tampered ones, and none.",
    "It serves from a cache that is sound and young enough, else it is alive and not ready, and recovers by itself.",
    "ready ≤ 5 s from a sound cache",
    run_starts,
    check_starts,
)
