"""F14: rollback while everything but the replica is gone."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import orjson

from mlops_lab.bootstrap.services import QUIET
from mlops_lab.chaos.away import moved_away
from mlops_lab.chaos.client import Client
from mlops_lab.chaos.fault import Fault, Finding, Size
from mlops_lab.chaos.history import Request, failures, read_history
from mlops_lab.chaos.load import Plan
from mlops_lab.chaos.stored import Stored, read_logs, unlogged
from mlops_lab.chaos.world import Home, World

BACK_S = 5.0


@dataclass(frozen=True)
class Rollback:
    """One rollback: when the command was given (monotonic ns), its exit code, what it said, from which version to which."""

    at_ns: int
    code: int
    said: str
    leaving: int
    target: int


@dataclass(frozen=True)
class RolledBack:
    """The evidence. `stayed` is who answered after a restart with everything still gone, None for nobody."""

    requests: Sequence[Request]
    stored: Stored
    rollbacks: Sequence[Rollback]
    stayed: Sequence[tuple[int, int | None]]


def run(world: World, seed: int, size: Size) -> RolledBack:
    """Promote version 2, take everything away, roll back; restart with everything still gone."""
    rollbacks, stayed = [], []
    requests: list[Request] = []
    stored = Stored()
    for number in range(size.of(1, 10)):
        home = world.home()
        history = home.path / "history.jsonl"
        with home.replica() as replica:
            replica.start()
            with Client(Plan((replica.port,), str(history), str(home.bodies), f"load{number}", 4, pause_ms=5, seed=seed)) as client:
                client.await_answers()
                home.promote(2)
                replica.await_version(2)
                with everything_gone(home):
                    at = time.monotonic_ns()
                    code, said = _lab(home, "rollback", "--why", "version 2 answers nonsense")
                    rollbacks.append(Rollback(at, code, said, 2, 1))
                    time.sleep(BACK_S)
                    client.stop()
                    replica.kill()
                    replica.spawn()
                    stayed.append((1, _who_answers(replica.predict, home)))
                    replica.end()
        requests += read_history(history)
        stored.add(read_logs([home.log()]))
    return RolledBack(requests, stored, rollbacks, stayed)


def check(seen: RolledBack) -> Finding:
    """The command works, nothing fails, the old version answers in time and the bad one never after it, also behind a restart."""
    broken = failures(seen.requests) + unlogged(seen.requests, seen.stored)
    slowest = 0.0
    for number, one in enumerate(seen.rollbacks, 1):
        if one.code != 0:
            broken += (f"rollback {number}: the command left with {one.code}: {one.said[-300:]}",)
        until = seen.rollbacks[number].at_ns if number < len(seen.rollbacks) else float("inf")
        after = [request for request in seen.requests if one.at_ns <= request.sent_ns < until and request.status == 200]
        first = min((request.done_ns for request in after if request.version == one.target), default=None)
        took = float("inf") if first is None else (first - one.at_ns) / 1e9
        slowest = max(slowest, took)
        if took > BACK_S:
            broken += (f"rollback {number}: version {one.target} answered after {took:.1f} s",)
        back = [r for r in after if first is not None and r.sent_ns > first and r.version == one.leaving and r.done_ns < until]
        # A new home begins on version 1 and goes to 2 again: only what came before its first answer counts here.
        back = [r for r in back if r.id.split("-")[0] == f"load{number - 1}"]
        if back:
            broken += (f"rollback {number}: version {one.leaving} answered again, first {back[0].id}",)
    for wanted, found in seen.stayed:
        if found != wanted:
            broken += (f"after a restart with everything gone version {found} answered, not {wanted}",)
    failed = sum(request.status != 200 for request in seen.requests)
    measured = f"{len(seen.rollbacks)} rollbacks, {failed} failed of {len(seen.requests)}, old version ≤ {slowest:.1f} s"
    return Finding(measured, broken)


@contextmanager
def everything_gone(home: Home) -> Iterator[None]:
    """No ledger, no bus, no store, no tables."""
    aside = home.path / "gone"
    aside.mkdir()
    with moved_away(home):
        for path in (*home.path.glob("bus.db*"), *home.path.glob("packages"), *home.path.glob("tables")):
            path.rename(aside / path.name)
        yield


def _lab(home: Home, *arguments: str) -> tuple[int, str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("LAB_")} | QUIET | {"LAB_HOME": str(home.path)}
    done = subprocess.run(
        [sys.executable, "-m", "mlops_lab.cli.main", *arguments], env=env, capture_output=True, text=True, check=False, timeout=60
    )
    return done.returncode, done.stdout + done.stderr


def _who_answers(predict: Callable[[bytes], tuple[int, bytes]], home: Home, within_s: float = 10.0) -> int | None:
    body, deadline = home.bodies.read_bytes().splitlines()[0], time.monotonic() + within_s
    while time.monotonic() < deadline:
        status, answer = predict(body)
        if status == 200:
            return int(orjson.loads(answer)["model_version"])
        time.sleep(0.05)
    return None


F14 = Fault(
    "F14",
    "rollback with everything else down",
    "Ledger, bus, store and tables are gone; `lab rollback` is called; then the replica is killed and started again.",
    "The version before answers from the local cache, no request fails, and the bad one does not come back.",
    "first answer from the old version ≤ 5 s, 0 failed",
    run,
    check,
)
