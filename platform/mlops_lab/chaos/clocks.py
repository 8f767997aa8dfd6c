"""F12: the wall clock steps by ten minutes, back and forth, while models are swapped and the process is started again."""

import itertools
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mlops_lab.chaos.away import moved_away
from mlops_lab.chaos.client import Client
from mlops_lab.chaos.fault import Fault, Finding, Size
from mlops_lab.chaos.history import Request, failures, read_history
from mlops_lab.chaos.load import Plan
from mlops_lab.chaos.stepped import step
from mlops_lab.chaos.stored import Stored, keys_broken, read_logs, unlogged
from mlops_lab.chaos.world import World

STEP_S = 600.0
FOLLOWS_S = 3.0
STARTS_S = 5.0


@dataclass(frozen=True)
class Stepped:
    """The evidence.

    Attributes:
        requests: The client's history.
        stored: The log.
        promoted: Per step: its seconds, the version that was promoted right after it, when (monotonic ns), and its ledger line.
        starts: Seconds to the first 200 of starts without a ledger under a clock that is off; infinite if there was none.
    """

    requests: Sequence[Request]
    stored: Stored
    promoted: Sequence[tuple[float, int, int, int]]
    starts: Sequence[float]


def run(world: World, seed: int, size: Size) -> Stepped:
    """Step, promote, look; then start without the ledger, with the clock off in both directions."""
    chance, home = random.Random(seed), world.home()
    history, offset = home.path / "history.jsonl", home.path / "offset"
    step(offset, 0)
    promoted, starts = [], []
    with home.replica(stepped=offset) as replica:
        replica.start()
        plan = Plan((replica.port,), str(history), str(home.bodies), connections=4, pause_ms=5, keys=True, seed=seed)
        with Client(plan) as client:
            client.await_answers()
            for number in range(size.of(5, 40)):
                by = chance.choice((STEP_S, -STEP_S, 0.0))
                step(offset, by)
                time.sleep(0.05)
                version = (number + 1) % 3 + 1
                at = time.monotonic_ns()
                promoted.append((by, version, at, home.promote(version).id))
                time.sleep(1.2)
            client.stop()
        for by in (STEP_S, -STEP_S):
            replica.end()
            step(offset, by)
            with moved_away(home):
                replica.spawn()
                took = float("inf")
                while replica.seconds < 2 * STARTS_S:
                    if replica.predict(home.bodies.read_bytes().splitlines()[0])[0] == 200:
                        took = replica.seconds
                        break
                    time.sleep(0.02)
                starts.append(took)
                replica.end()
            step(offset, 0)
            replica.start()
        replica.end()
    return Stepped(read_history(history), read_logs([home.log()]), promoted, starts)


def check(seen: Stepped) -> Finding:
    """Nothing fails, each line is followed in its order, and what wall time says decides nothing."""
    broken = failures(seen.requests) + unlogged(seen.requests, seen.stored) + keys_broken(seen.requests, seen.stored)
    order = [frame["assignment"] for frame in seen.stored.predictions]
    if any(later < earlier for earlier, later in itertools.pairwise(order)):
        broken += ("an older line of the ledger answered after a newer one",)
    wrong = 0
    for by, version, at, line in seen.promoted:
        answers = [request for request in seen.requests if request.version == version and request.sent_ns >= at]
        took = min(((request.done_ns - at) / 1e9 for request in answers), default=float("inf"))
        if took > FOLLOWS_S:
            wrong += 1
            broken += (f"with the clock off by {by:+.0f} s, line {line} (version {version}) was followed after {took:.1f} s",)
    for took in seen.starts:
        if took > STARTS_S:
            wrong += 1
            broken += (f"a start without the ledger under a clock that is off answered after {took:.1f} s",)
    if not jumps(seen.stored.predictions):
        broken += ("no record shows a step of the clock, so the fault did not bite",)
    measured = f"{len(seen.promoted)} steps, {len(seen.starts)} starts, {wrong} wrong decisions, {len(seen.requests)} requests"
    return Finding(measured, broken)


def jumps(frames: Sequence[dict[str, Any]]) -> int:
    """How often the time of the answers goes backwards in the log."""
    at = [str(frame["answered_at"]) for frame in frames]
    return sum(later < earlier for earlier, later in itertools.pairwise(at))


F12 = Fault(
    "F12",
    "clock steps",
    "The wall clock steps by +10 and -10 minutes while models are swapped; then the service starts without the ledger, clock off.",
    "Order comes from sequences and waiting from the monotonic clock, so nothing is decided differently.",
    "40 steps, 0 wrong decisions",
    run,
    check,
)
