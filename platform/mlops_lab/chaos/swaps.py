"""F16: models are swapped and replicas restarted one after the other while clients ask."""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from mlops_lab.chaos.client import Client
from mlops_lab.chaos.fault import Fault, Finding, Size
from mlops_lab.chaos.history import Request, failures, percentile_ms, read_history
from mlops_lab.chaos.load import Plan
from mlops_lab.chaos.replica import Replica
from mlops_lab.chaos.stored import Stored, read_logs, unlogged
from mlops_lab.chaos.world import Home, World

FOLLOWS_S = 2.0
DRAINS_S = 12.0
_BY_ITSELF = (0, -15)
"""Exit codes of a process that drained: a server may hand the signal on to itself when it is done."""


@dataclass(frozen=True)
class Swap:
    """A line of the ledger: its id, its version, and when it was written (monotonic ns)."""

    assignment: int
    version: int
    written_ns: int


@dataclass(frozen=True)
class Restart:
    """A replica that was asked to end: its exit code (None: it had to be killed) and how long it took."""

    replica: str
    code: int | None
    seconds: float


@dataclass(frozen=True)
class Rolled:
    """The evidence: the client's history, the logs, the ledger's lines, and how the processes ended. `ports` are the replicas'."""

    requests: Sequence[Request]
    stored: Stored
    swaps: Sequence[Swap]
    restarts: Sequence[Restart]
    ports: Sequence[int]


def run(world: World, seed: int, size: Size) -> Rolled:
    """Two replicas, 8 connections that go to the other replica only when one refuses them."""
    chance, home = random.Random(seed), world.home()
    history = home.path / "history.jsonl"
    swaps, restarts = [], []
    with home.replica("replica-1") as first, home.replica("replica-2") as second:
        first.start()
        second.start()
        plan = Plan((first.port, second.port), str(history), str(home.bodies), pause_ms=2, seed=seed)
        with Client(plan) as client:
            client.await_answers()
            for number in range(size.of(20, 100)):
                swaps.append(_swap(home, (number + 1) % 3 + 1, first, second))
                time.sleep(chance.uniform(0, 0.1))
            for number in range(size.of(10, 50)):
                name, replica = (("replica-1", first), ("replica-2", second))[number % 2]
                began = time.monotonic()
                code = replica.end()
                restarts.append(Restart(name, code, time.monotonic() - began))
                replica.start()
                time.sleep(chance.uniform(0.1, 0.3))
            client.stop()
        first.end()
        second.end()
    logs = read_logs([home.log("replica-1"), home.log("replica-2")])
    return Rolled(read_history(history), logs, swaps, restarts, (first.port, second.port))


def _swap(home: Home, version: int, *replicas: Replica) -> Swap:
    """Write the line, and wait until each replica answers by it, or should have."""
    written = time.monotonic_ns()
    line = home.promote(version)
    body = home.bodies.read_bytes().splitlines()[0]
    for replica in replicas:
        while time.monotonic_ns() - written < 2 * FOLLOWS_S * 1e9:
            status, answer = replica.predict(body)
            if status == 200 and orjson.loads(answer)["model_version"] == version:
                break
            time.sleep(0.02)
    time.sleep(0.05)  # until the load has met it too
    return Swap(line.id, version, written)


def check(seen: Rolled) -> Finding:
    """Every request has its 200, every line of the ledger was followed by every replica, for good, and every process ended by itself."""
    broken = failures(seen.requests) + unlogged(seen.requests, seen.stored)
    slowest = 0.0
    for port in seen.ports:
        ours = sorted((request for request in seen.requests if request.port == port), key=lambda request: request.sent_ns)
        for number, swap in enumerate(seen.swaps, 1):
            until = seen.swaps[number].written_ns if number < len(seen.swaps) else float("inf")
            within = [request for request in ours if swap.written_ns <= request.sent_ns < until and request.status == 200]
            new = min((request.done_ns for request in within if request.version == swap.version), default=None)
            if new is None:
                broken += (f"swap {number} to version {swap.version} was never seen on port {port}",)
                continue
            slowest = max(slowest, (new - swap.written_ns) / 1e9)
            back = [
                request.id for request in within if request.sent_ns > new and request.version != swap.version and request.done_ns < until
            ]
            if back:
                broken += (f"swap {number}: version {swap.version} had answered on port {port}, then another one did, first {back[0]}",)
    if slowest > FOLLOWS_S:
        broken += (f"a replica followed the ledger after {slowest:.1f} s, allowed are {FOLLOWS_S:.0f}",)
    for restart in seen.restarts:
        if restart.code not in _BY_ITSELF or restart.seconds > DRAINS_S:
            broken += (f"{restart.replica} ended with {restart.code} after {restart.seconds:.1f} s",)
    if not seen.requests:
        broken += ("no request was sent, so nothing was tried",)
    failed = sum(request.status != 200 for request in seen.requests)
    measured = (
        f"{len(seen.swaps)} swaps, {len(seen.restarts)} restarts, {len(seen.requests)} requests, {failed} failed, "
        f"followed ≤ {slowest:.1f} s, p99 {percentile_ms(seen.requests, 0.99):.0f} ms"
    )
    return Finding(measured, broken)


F16 = Fault(
    "F16",
    "swaps and rolling restarts",
    "Models are swapped, then two replicas restarted in turn by SIGTERM, while 8 connections ask.",
    "What has begun is finished, and no client sees a failure.",
    "100 swaps, 50 restarts, 0 failed",
    run,
    check,
)
