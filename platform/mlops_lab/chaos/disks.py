"""F8: the disk under the prediction log is full, again and again."""

import os
import random
import resource
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlops_lab.chaos.client import Client
from mlops_lab.chaos.fault import Fault, Finding, Size, few
from mlops_lab.chaos.history import Request, failures, first_after, read_history, statuses
from mlops_lab.chaos.load import Plan
from mlops_lab.chaos.replica import Replica
from mlops_lab.chaos.stored import Stored, read_logs, unlogged
from mlops_lab.chaos.world import World

RECOVERS_S = 2.0
_DISK_MIB = 48


@dataclass(frozen=True)
class Cycle:
    """One time without room: how it was made, from when to when (monotonic ns)."""

    how: str
    full_ns: int
    freed_ns: int


@dataclass(frozen=True)
class Filled:
    """The evidence: the client's history, the log, the cycles, and whether the process was the same to the end."""

    requests: Sequence[Request]
    stored: Stored
    cycles: Sequence[Cycle]
    same_process: bool


def run(world: World, seed: int, size: Size) -> Filled:
    """Take the room away, wait, give it back; by a full file system where one may be mounted, else by a limit on the size of files."""
    chance, home = random.Random(seed), world.home()
    history = home.path / "history.jsonl"
    folder = home.log().parent
    folder.mkdir(parents=True)
    cycles = []
    with _small_disk(folder) as mounted, home.replica() as replica:
        replica.start()
        pid = replica.pid
        plan = Plan((replica.port,), str(history), str(home.bodies), connections=4, pause_ms=5, seed=seed)
        with Client(plan) as client:
            client.await_answers()
            for number in range(size.of(3, 20)):
                by_disk = mounted and number % 2 == 0
                full = time.monotonic_ns()
                if by_disk:
                    _fill(folder / "filler", chance)
                else:
                    _limit(replica, home.log(), chance)
                time.sleep(chance.uniform(0.3, 0.8))
                freed = time.monotonic_ns()
                if by_disk:
                    (folder / "filler").unlink()
                else:
                    resource.prlimit(replica.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
                cycles.append(Cycle("full disk" if by_disk else "file size limit", full, freed))
                time.sleep(1.0)
            client.stop()
        same = replica.alive and replica.pid == pid
        replica.end()
        stored = read_logs([home.log()])
    return Filled(read_history(history), stored, cycles, same)


def check(seen: Filled) -> Finding:
    """503 with Retry-After and nothing else while there is no room, 200 soon after, no answer without its record."""
    broken = unlogged(seen.requests, seen.stored) + failures(seen.requests, allowed=(200, 503))
    refused = [request for request in seen.requests if request.status == 503]
    broken += few([f"request {request.id} got 503 without Retry-After" for request in refused if not request.retry_after])
    longest = 0.0
    for number, cycle in enumerate(seen.cycles, 1):
        if not any(cycle.full_ns <= request.done_ns <= cycle.freed_ns for request in refused):
            broken += (f"cycle {number} ({cycle.how}): nothing was refused, so the fault did not bite",)
        answer = first_after(seen.requests, cycle.freed_ns)
        took = (answer.done_ns - cycle.freed_ns) / 1e9 if answer else float("inf")
        longest = max(longest, took)
        if took > RECOVERS_S:
            broken += (f"cycle {number} ({cycle.how}): the first answer came {took:.1f} s after there was room again",)
    if not seen.same_process:
        broken += ("the process did not live through it",)
    kinds = len({cycle.how for cycle in seen.cycles})
    measured = f"{len(seen.cycles)} cycles of {kinds} kinds, {statuses(seen.requests)}, recovered ≤ {longest:.2f} s"
    return Finding(measured, broken)


@contextmanager
def _small_disk(folder: Path) -> Iterator[bool]:
    """A file system of its own under a folder, where this user may mount one; yields whether there is."""
    mounted = (
        os.geteuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={_DISK_MIB}m,mode=700", "mlops-lab-chaos", str(folder)], check=False, capture_output=True
        ).returncode
    )
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=False, capture_output=True)


def _fill(filler: Path, chance: random.Random) -> None:
    """Take all room but a few pages, so that the record that does not fit begins at a random place."""
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(65536))
        except OSError:
            pass
        size = file.tell()
        file.truncate(max(0, size - chance.randrange(0, 3) * 4096))


def _limit(replica: Replica, log: Path, chance: random.Random) -> None:
    """No file of the process may grow beyond a few bytes more than the log has; writing on gives an error, as on a full disk."""
    newest = max(log.glob("*.log"))
    room = newest.stat().st_size + chance.randrange(1, 4000)
    resource.prlimit(replica.pid, resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))


F8 = Fault(
    "F8",
    "disk full",
    "The disk under the prediction log is filled up, or its files may not grow, in the middle of a record, while clients ask.",
    "503 with Retry-After instead of an unlogged 200, no torn record, and it recovers without a restart.",
    "20 cycles",
    run,
    check,
)
