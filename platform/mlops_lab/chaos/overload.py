"""F17: three times as many callers as the service takes, all of them without a pause."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from mlops_lab.chaos.client import Client
from mlops_lab.chaos.fault import Fault, Finding, Size, few
from mlops_lab.chaos.history import Request, failures, percentile_ms, read_history, statuses
from mlops_lab.chaos.load import Plan
from mlops_lab.chaos.stored import Stored, read_logs, unlogged
from mlops_lab.chaos.world import World

CONNECTIONS = 32
WAITING = 16
TIMES = 3
P99_MS = 250.0
RECOVERS_S = 5.0
GROWTH_KIB = 24 * 1024


@dataclass(frozen=True)
class Overloaded:
    """The evidence.

    Attributes:
        steady: History of a few connections that were there before, and stay: what they get is what is accepted.
        flood: History of all the others.
        after: History of clients that come when it is over.
        stored: The log.
        resident_kib: Resident memory from /proc, every quarter of a second: the first before the flood.
        ended_ns: When the flood was over (monotonic).
        same_process: Whether it was the same one to the end.
    """

    steady: Sequence[Request]
    flood: Sequence[Request]
    after: Sequence[Request]
    stored: Stored
    resident_kib: Sequence[int]
    ended_ns: int
    same_process: bool


def run(world: World, seed: int, size: Size) -> Overloaded:
    """Limits are set low, so that this machine can exceed them three times."""
    home = world.home()
    steady, flood, after = (home.path / f"{name}.jsonl" for name in ("steady", "flood", "after"))
    resident = []
    with home.replica(max_connections=CONNECTIONS, max_waiting=WAITING) as replica:
        replica.start()
        pid, port, bodies = replica.pid, replica.port, str(home.bodies)
        # Before the first figure of memory everything has been used once.
        with Client(Plan((port,), str(home.path / "warm.jsonl"), bodies, most=2000, seconds=20, seed=seed)) as warm:
            warm.wait()
        resident.append(replica.resident_kib())
        with Client(Plan((port,), str(steady), bodies, name="steady", connections=4, pause_ms=5, seed=seed)) as few_:
            few_.await_answers(20)
            everybody = Plan((port,), str(flood), bodies, name="flood", connections=TIMES * CONNECTIONS, pause_ms=1, seed=seed)
            with Client(everybody) as many:
                until = time.monotonic() + size.of(8, 60)
                while time.monotonic() < until:
                    time.sleep(0.25)
                    resident.append(replica.resident_kib())
                many.stop()
            ended = time.monotonic_ns()
            with Client(Plan((port,), str(after), bodies, name="after", connections=8, pause_ms=5, seconds=6, seed=seed)) as late:
                late.wait()
            resident.append(replica.resident_kib())
        same = replica.alive and replica.pid == pid
        replica.end()
    histories = (read_history(steady), read_history(flood), read_history(after))
    return Overloaded(*histories, read_logs([home.log()]), resident, ended, same)


def check(seen: Overloaded) -> Finding:
    """What is taken is answered in time and logged, what is not gets 429 with Retry-After, memory is flat, and it is over when it is."""
    everything = [*seen.steady, *seen.flood, *seen.after]
    broken = failures(everything, allowed=(200, 429)) + unlogged(everything, seen.stored)
    refused = [request for request in everything if request.status == 429]
    broken += few([f"request {request.id} got 429 without Retry-After" for request in refused if not request.retry_after])
    if not refused:
        broken += ("nothing was turned away, so it was no overload",)
    p99 = percentile_ms(seen.steady, 0.99)
    if p99 > P99_MS or not any(request.status == 200 for request in seen.steady):
        broken += (f"accepted requests had a p99 of {p99:.0f} ms, allowed are {P99_MS:.0f}",)
    growth = max(seen.resident_kib) - seen.resident_kib[0]
    if growth > GROWTH_KIB:
        broken += (f"resident memory grew by {growth / 1024:.0f} MiB, allowed are {GROWTH_KIB // 1024}",)
    late = [request for request in seen.after if request.status != 200]
    recovered = max((request.done_ns - seen.ended_ns for request in late), default=0) / 1e9
    if recovered > RECOVERS_S or not any(request.status == 200 for request in seen.after):
        broken += (f"it still turned away {recovered:.1f} s after the overload",)
    if not seen.same_process:
        broken += ("the process did not live through it",)
    measured = f"{statuses(everything)}, accepted p99 {p99:.0f} ms, memory + {growth / 1024:.0f} MiB, recovered after {recovered:.1f} s"
    return Finding(measured, broken)


F17 = Fault(
    "F17",
    "overload",
    f"{TIMES * CONNECTIONS} callers without a pause, where {CONNECTIONS} connections and {WAITING} waiting requests are the limits.",
    "The queue is bounded: 429 with Retry-After beyond it, memory flat, what is accepted is answered in time.",
    f"accepted p99 ≤ {P99_MS:.0f} ms, memory flat, recovery ≤ 5 s",
    run,
    check,
)
