"""F15: a canary that errs, is slow, or answers otherwise, on real requests to a real process, watched by the guard."""

import dataclasses
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from mlops_lab.bootstrap.identities import OPERATOR
from mlops_lab.chaos.client import Client
from mlops_lab.chaos.fault import Fault, Finding, Size, few
from mlops_lab.chaos.history import Request, failures, read_history
from mlops_lab.chaos.load import Plan
from mlops_lab.chaos.stored import Stored, read_logs, unlogged
from mlops_lab.chaos.world import CUT, Home, World
from mlops_lab.pipelines.canary import begin, end
from mlops_lab.pipelines.guard import CanaryGuard
from mlops_lab.registry.version import Role
from mlops_lab.scoring.forest import Forest

ERROR_SHARE = 0.05
SHARE = 0.5
FALSE_ALLOWED = 1
MISSED_ALLOWED = 1
_SHIFT = 0.6
_TIMES = 12  # the trees of a slow one: half as long again to score a row, since most of that time does not depend on trees
_SOUND_S = 6.0
_WATCH_S = 20.0
_LOOK_EVERY_S = 0.25


class Kind(StrEnum):
    """What is wrong with a canary."""

    ERRORS = "5 % errors"
    SLOW = "half as slow again"
    SHIFTED = "shifted scores"
    SOUND = "sound"


@dataclass(frozen=True)
class Run:
    """One canary: what is wrong with it, its line of the ledger, whether the ledger shows that its share was taken away by the guard,
    for which stated reason, and after how many seconds."""

    kind: Kind
    line: int
    aborted: bool
    why: str
    seconds: float


@dataclass(frozen=True)
class Watched:
    """The evidence: the runs as the ledger tells them, what clients met, and the log."""

    runs: Sequence[Run]
    requests: Sequence[Request]
    stored: Stored


def run(world: World, seed: int, size: Size) -> Watched:
    """One canary after the other; a service for those that err and one for the rest."""
    chance = random.Random(seed)
    bad, sound = size.of(1, 10), size.of(3, 30)
    runs: list[Run] = []
    requests: list[Request] = []
    stored = Stored()
    groups = ([Kind.ERRORS] * bad, [Kind.SLOW, Kind.SHIFTED] * bad + [Kind.SOUND] * sound)
    for number, kinds in enumerate(groups):
        home = world.home()
        history = home.path / "history.jsonl"
        chance.shuffle(kinds)
        share = ERROR_SHARE if Kind.ERRORS in kinds else 0.0
        with home.replica(variables={"LAB_FAULT__CANARY_ERROR_SHARE": str(share)}) as replica:
            replica.start()
            plan = Plan((replica.port,), str(history), str(home.bodies), f"load{number}", 8, pause_ms=3, seconds=1700, seed=seed)
            with Client(plan) as client:
                client.await_answers()
                for i, kind in enumerate(kinds):
                    runs.append(_try(home, kind, i))
                client.stop()
            replica.end()
        requests += read_history(history)
        stored.add(read_logs([home.log()]))
    return Watched(runs, requests, stored)


def check(seen: Watched) -> Finding:
    """Bad ones lose their share, sound ones keep it, and clients see nothing of either."""
    broken = failures(seen.requests) + unlogged(seen.requests, seen.stored)
    bad, sound = [run for run in seen.runs if run.kind != Kind.SOUND], [run for run in seen.runs if run.kind == Kind.SOUND]
    missed = [run for run in bad if not run.aborted]
    falsely = [run for run in sound if run.aborted]
    # One of thirty may be missed; of the few of the short form none.
    if len(missed) > len(bad) * MISSED_ALLOWED // 30:
        broken += few([f"the canary of line {run.line} ({run.kind}) was not aborted in {run.seconds:.0f} s" for run in missed])
    if len(falsely) > len(sound) * FALSE_ALLOWED // 30:
        broken += few([f"the sound canary of line {run.line} was aborted: {run.why}" for run in falsely])
    tried = {frame["assignment"] for frame in seen.stored.predictions if "trial" in frame} if seen.stored.frames else set()
    if not tried:
        broken += ("no request was dealt to a canary, so nothing was tried",)
    if not bad or not sound:
        broken += ("bad and sound canaries have to be tried",)
    slowest = max((run.seconds for run in bad if run.aborted), default=float("inf"))
    found = len(bad) - len(missed)
    failed = sum(request.status != 200 for request in seen.requests)
    measured = (
        f"{found} of {len(bad)} bad ones found, ≤ {slowest:.1f} s, {len(falsely)} of {len(sound)} sound ones aborted, {failed} failed"
    )
    return Finding(measured, broken)


def _try(home: Home, kind: Kind, number: int) -> Run:
    """Give a canary its share and let the guard look at it, as the watcher does, until it takes the share away or has seen enough."""
    version = home.publish(forest(home.materials.forests[0], kind, number))
    line = begin(version, SHARE, CUT, OPERATOR, home.lab, why=f"a drill: {kind}", override=True)
    guard, began = CanaryGuard(home.lab), time.monotonic()
    aborted = False
    while time.monotonic() - began < (_SOUND_S if kind == Kind.SOUND else _WATCH_S):
        time.sleep(_LOOK_EVERY_S)
        guard.step()
        now = home.lab.ledger.current(Role.CANARY)
        if now is None or now.version is None:
            aborted = True
            break
    seconds = time.monotonic() - began
    now = home.lab.ledger.current(Role.CANARY)
    if now is not None and now.version is not None:
        end(CUT, OPERATOR, "the drill is over", home.lab)
    return Run(kind, line.id, aborted, now.why if aborted and now is not None else "", seconds)


def forest(sound: Forest, kind: Kind, number: int) -> Forest:
    """The champion's forest with something wrong; each with a digest of its own.

    Slow: each tree many times over, with values as much smaller, which answers the same.
    """
    baseline = sound.baseline + (number + 1) * 1e-6 + (_SHIFT if kind == Kind.SHIFTED else 0.0)
    trees = sound.trees
    if kind == Kind.SLOW:
        times = _TIMES
        trees = tuple(tuple(node / times if isinstance(node, float) else node for node in tree) for tree in trees) * times
    return dataclasses.replace(sound, baseline=baseline, trees=trees)


F15 = Fault(
    "F15",
    "bad canaries",
    "Canaries get half of the requests: some err on 5 %, some are half again as slow, some answer otherwise, some are sound.",
    "The bad ones lose their share by themselves, the sound ones do not, and no client sees an error.",
    "found in ≥ 29 of 30, ≤ 1 false abort in 30",
    run,
    check,
)
