"""F2: the service starts while ledger and store are away."""

import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

from mlops_lab.chaos.away import moved_away, store_away
from mlops_lab.chaos.fault import Fault, Finding, Size
from mlops_lab.chaos.replica import Replica
from mlops_lab.chaos.world import Home, World

STARTS_S = 5.0

RECOVERS_S = 20.0


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
        before.await_version(1)  # ended politely, it has also written what it knows
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


F2 = Fault(
    "F2",
    "registry down at start",
    "The service starts while ledger and store are gone, with a sound cache, one that is too old, tampered ones, and none.",
    "It serves from a cache that is sound and young enough, else it is alive and not ready, and recovers by itself.",
    "ready ≤ 5 s from a sound cache",
    run_starts,
    check_starts,
)
