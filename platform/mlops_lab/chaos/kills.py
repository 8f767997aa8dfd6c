"""F6: the process is killed at random moments while clients are being answered."""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

from mlops_lab.chaos.client import Client
from mlops_lab.chaos.fault import Fault, Finding, Size, few
from mlops_lab.chaos.history import Request, failures, first_after, read_history
from mlops_lab.chaos.load import Plan
from mlops_lab.chaos.stored import Stored, count_acknowledged, keys_broken, read_logs, unlogged
from mlops_lab.chaos.world import World

WITH_KEYS = True
"""Whether clients send an Idempotency-Key and repeat what was cut."""

READY_S = 3.0


@dataclass(frozen=True)
class Killed:
    """The evidence.

    Attributes:
        requests: The client's history.
        stored: The log after the last restart.
        starts_ns: When the process was started, each time; its first answer is in the history.
        kills: How often it was killed.
    """

    requests: Sequence[Request]
    stored: Stored
    starts_ns: Sequence[int]
    kills: int


def run(world: World, seed: int, size: Size) -> Killed:
    """Kill while 8 connections ask without a pause."""
    chance, home = random.Random(seed), world.home()
    kills = size.of(5, 200)
    history = home.path / "history.jsonl"
    starts: list[int] = []
    with home.replica() as replica, Client(Plan((replica.port,), str(history), str(home.bodies), keys=WITH_KEYS, seed=seed)) as client:
        for _ in range(kills):
            replica.start()
            starts.append(replica.started_ns)
            time.sleep(chance.uniform(0.02, 0.4))
            replica.kill()
        replica.start()
        starts.append(replica.started_ns)
        time.sleep(0.3)
        client.stop()
        replica.end()
    return Killed(read_history(history), read_logs([home.log()]), starts, kills)


def check(seen: Killed) -> Finding:
    """Join the history with the log."""
    slow, longest = [], 0.0
    for number, started in enumerate(seen.starts_ns):
        answer = first_after(seen.requests, started)
        took = (answer.done_ns - started) / 1e9 if answer else float("inf")
        longest = max(longest, took)
        if took > READY_S:
            slow.append(f"start {number + 1} answered after {took:.1f} s, allowed are {READY_S:.0f}")
    broken = unlogged(seen.requests, seen.stored) + failures(seen.requests, allowed=(200, 0)) + few(slow)
    if WITH_KEYS:
        broken += keys_broken(seen.requests, seen.stored)
    acknowledged, cut = count_acknowledged(seen.requests), sum(request.status == 0 for request in seen.requests)
    if not acknowledged:
        broken += ("nothing was acknowledged, so nothing was tried",)
    logged = {row["prediction_id"] for frame in seen.stored.predictions for row in frame["rows"]}
    lost = sum(answer["prediction_id"] not in logged for request in seen.requests for answer in request.acknowledged)
    measured = f"{seen.kills} kills, {acknowledged} acknowledged, {lost} lost, {cut} cut, ready ≤ {longest:.1f} s"
    return Finding(measured, broken)


F6 = Fault(
    "F6",
    "kill -9 under load",
    "The process is killed at random moments while 8 connections ask without a pause; then it is started again.",
    "Every acknowledged prediction is in the log exactly once, and the next start answers at once.",
    "200 kills, 0 lost, ready ≤ 3 s",
    run,
    check,
)
