"""F4: the event bus is away while the service answers."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson

from mlops_lab.chaos.away import WAYS, in_each_way
from mlops_lab.chaos.client import Client
from mlops_lab.chaos.fault import Fault, Finding, Size, few
from mlops_lab.chaos.history import Request, failures, read_history
from mlops_lab.chaos.load import Plan
from mlops_lab.chaos.replica import Replica, document_of
from mlops_lab.chaos.stored import Stored, read_logs, unlogged
from mlops_lab.chaos.world import CUT, Home, World
from mlops_lab.events import OBSERVATIONS, Message
from mlops_lab.events.on_sqlite import SqliteBus

WORST_S = 1.0
BACK_S = 5.0
"""A replica looks for a bus that it lost once a second; a read that hangs in the meantime ends a third of a second after its cause."""
OLDER_S = 1800.0

_BUS = "bus.db"
_AIRPORT = "EWR"
_THEN = CUT + timedelta(hours=6)
"""Event time of the last fact before the bus goes away; later than all others of the home."""


@dataclass(frozen=True)
class Outage:
    """One time without the bus.

    Attributes:
        how: What was done to it.
        ready: What /readyz said at the end of it: status and document.
        ages: Seconds, of a fact in answers: about its own moment before, about half an hour later without the bus; and of a fact of that
            later moment that was published once the bus was back. None for no answer, or an unknown fact.
        counted_s: From the return of the bus until that last fact counted.
    """

    how: str
    ready: tuple[int, Any]
    ages: tuple[float | None, float | None, float | None]
    counted_s: float


@dataclass(frozen=True)
class Without:
    """The evidence of F4: the client's history, the logs, the outages."""

    requests: Sequence[Request]
    stored: Stored
    outages: Sequence[Outage]


def run(world: World, seed: int, size: Size) -> Without:
    """Take the bus away in three ways while clients ask."""
    parts = in_each_way(world, lambda home, how: _take_away(home, how, seed, size.of(12, 120)))
    stored = Stored()
    for part in parts:
        stored.add(part.stored)
    return Without([request for part in parts for request in part.requests], stored, [part.outages[0] for part in parts])


def _take_away(home: Home, how: str, seed: int, seconds: int) -> Without:
    history, later = home.path / "history.jsonl", _THEN + timedelta(seconds=OLDER_S)
    _publish(home, _THEN)
    with home.replica() as replica:
        replica.start()
        plan = Plan((replica.port,), str(history), str(home.bodies), how.replace(" ", "-"), connections=3, pause_ms=10, seed=seed)
        with Client(plan) as client:
            client.await_answers()
            before = weather_age(replica, _AIRPORT, _THEN)
            with WAYS[how](home, _BUS):
                time.sleep(seconds)
                without = weather_age(replica, _AIRPORT, later)
                status, body = replica.get("/readyz")
            back = time.monotonic()
            _publish(home, later)
            while (after := weather_age(replica, _AIRPORT, later)) != 0.0 and time.monotonic() - back < 2 * BACK_S:
                time.sleep(0.05)
            counted_s = time.monotonic() - back if after == 0.0 else float("inf")
            client.stop()
        replica.end()
    outage = Outage(how, (status, document_of(body)), (before, without, after), counted_s)
    return Without(read_history(history), read_logs([home.log()]), [outage])


def check(seen: Without) -> Finding:
    """Nothing fails or waits long, the state is told, features grow old and say so, and facts count again once the bus is back."""
    broken = failures(seen.requests) + unlogged(seen.requests, seen.stored)
    slow = sorted((request for request in seen.requests if request.seconds >= WORST_S), key=lambda request: -request.seconds)
    broken += few([f"request {r.id} took {r.seconds:.2f} s, allowed are less than {WORST_S:.0f}" for r in slow])
    for outage in seen.outages:
        status, said = outage.ready
        state = said.get("dependencies", {}).get("bus", {}).get("state") if isinstance(said, dict) else None
        if (status, state) != (200, "down"):
            broken += (f"bus {outage.how}: /readyz answered {status} and says of the bus {state}, expected are 200 and down",)
        before, without, after = outage.ages
        if (before, without, after) != (0.0, OLDER_S, 0.0):
            aged = f"{before} s before, {without} s without it, {after} s after"
            broken += (f"bus {outage.how}: the fact's age was {aged}; expected are 0, {OLDER_S:.0f} and 0",)
        if outage.counted_s > BACK_S:
            broken += (f"bus {outage.how}: a fact counted {outage.counted_s:.1f} s after it was back, allowed are {BACK_S:.0f}",)
    failed = sum(request.status != 200 for request in seen.requests)
    worst = max((request.seconds for request in seen.requests), default=0.0)
    counted = max((outage.counted_s for outage in seen.outages), default=float("inf"))
    ways = f"{len(seen.outages)} ways, {len(seen.requests)} requests, {failed} failed"
    return Finding(f"{ways}, worst {worst * 1000:.0f} ms, facts count again ≤ {counted:.1f} s", broken)


def _publish(home: Home, at: datetime) -> None:
    """The weather of an airport at a moment."""
    from mlops_lab.flights.facts import OBSERVED
    from mlops_lab.flights.transform import WEATHER

    bus = SqliteBus(home.path / _BUS)
    bus.publish(OBSERVATIONS, [Message(OBSERVED, at, _AIRPORT, dict.fromkeys(WEATHER, 1.0), id=f"chaos-{at:%Y%m%dT%H%M}")])
    bus.close()


def weather_age(replica: Replica, airport: str, at: datetime) -> float | None:
    """How old an airport's weather is in an answer about a moment, in seconds; None where it is not known, or nothing answers."""
    from mlops_lab.flights.transform import ASKED_BEFORE_DEPARTURE

    departs = f"{at + ASKED_BEFORE_DEPARTURE:%Y-%m-%dT%H:%M:%SZ}"
    flight = {"flight_id": "chaos", "scheduled_departure": departs, "carrier": "UA", "origin": airport, "destination": "IAH"}
    status, body = replica.predict(orjson.dumps(flight))
    age: float | None = orjson.loads(body)["feature_ages_s"]["weather"] if status == 200 else None
    return age


F4 = Fault(
    "F4",
    "bus down while serving",
    "The event bus is overwritten, locked by somebody, moved away, while clients ask.",
    "Answers go on in time with the facts that are there, their ages and /readyz say so, and facts count again once it is back.",
    "0 failed, worst below 1 s",
    run,
    check,
)
