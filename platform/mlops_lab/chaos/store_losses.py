"""E3: the online store dies and comes back empty, while the service answers from it."""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from mlops_lab.bootstrap import Lab
from mlops_lab.chaos.buses import weather_age
from mlops_lab.chaos.client import Client
from mlops_lab.chaos.disorder import Sending, in_disorder
from mlops_lab.chaos.fault import Fault, Finding, Size, few
from mlops_lab.chaos.happenings import happenings
from mlops_lab.chaos.history import Request, failures, percentile_ms, read_history
from mlops_lab.chaos.load import Plan
from mlops_lab.chaos.process import awaited
from mlops_lab.chaos.redis_server import PROGRAM
from mlops_lab.chaos.replica import Replica
from mlops_lab.chaos.stored import Stored, read_logs, unlogged
from mlops_lab.chaos.stream_home import StreamHome, brokered_home, sent_of
from mlops_lab.chaos.streamed import Streamed, rows_broken, wanted_rows
from mlops_lab.chaos.world import CUT, Home, Sections, World
from mlops_lab.flights.facts import OBSERVED

WORST_S = 1.0
COMPLETE_S = 30.0
ALL_AIRCRAFT = 10_000

_DAYS_BEFORE = 3
_FAST, _SLOW = 3000.0, 5.0  # sendings per second: what had happened before, and what goes on
_GOES_ON = 1500
_FILLED_S = 120.0
_AIRPORT = "EWR"


@dataclass(frozen=True)
class Loss:
    """One time without what was in the store.

    Attributes:
        rows: How many there were before.
        left: How many there were when it answered again.
        complete_s: From then until all of them were there again.
        ages: Seconds, of a fact in answers about its own moment: before, while the store was down, and when it was complete again. None
            where it was not known.
    """

    rows: int
    left: int
    complete_s: float
    ages: tuple[float | None, float | None, float | None]


@dataclass(frozen=True)
class Lost:
    """The evidence: the client's history, the replica's log, what was sent and where it ended, each loss."""

    requests: Sequence[Request]
    stored: Stored
    streamed: Streamed
    losses: Sequence[Loss]


def run(world: World, seed: int, size: Size) -> Lost:
    """Kill Redis and start it empty, while clients ask and facts go on."""
    chance, served = random.Random(seed), list[Home]()

    def lab_of(sections: Sections) -> Lab:
        served.append(world.home(sections))
        return served[0].lab

    with brokered_home(world, lab_of) as home:
        days = happenings(world.year, _DAYS_BEFORE + 1, seed, since=CUT - timedelta(days=_DAYS_BEFORE), listed=ALL_AIRCRAFT)
        sendings = in_disorder(days, chance, new_ids=False)
        before, then = sendings[:-_GOES_ON], sendings[-_GOES_ON:]
        known = max(each.message.at for each in before if each.message.type == OBSERVED and each.message.subject == _AIRPORT)
        losses: list[Loss] = []
        history = home.path / "history.jsonl"
        replica = served[0].replica(variables=home.variables)
        with home.processor() as processor, home.publisher(before, _FAST, "before") as past, replica:
            processor.spawn()
            past.spawn()
            assert past.wait(_FILLED_S) == 0, "what had happened before was not published"
            home.await_rows(before, _FILLED_S)
            replica.start()
            plan = Plan((replica.port,), str(history), str(served[0].bodies), connections=4, pause_ms=5, seed=seed)
            with home.publisher(then, _SLOW) as publisher, Client(plan) as client:
                publisher.spawn()
                client.await_answers()
                for _ in range(size.of(2, 5)):
                    time.sleep(chance.uniform(1, 4))
                    losses.append(_lose(home, replica, [*before, *sent_of(then, publisher)], known, chance.uniform(0.5, 3)))
                client.stop()
                publisher.end(120.0)
                sent = [*before, *sent_of(then, publisher)]
            home.await_rows(sent, COMPLETE_S)
            replica.end()
            processor.end()
        return Lost(read_history(history), read_logs([served[0].log()]), home.evidence(sent), losses)


def _lose(home: StreamHome, replica: Replica, sent: Sequence[Sending], known: datetime, down_s: float) -> Loss:
    """Kill Redis, start it empty, and wait until the rows that it had are there again."""
    assert home.redis is not None
    wanted = wanted_rows(sent)
    rows, before = home.kept(wanted).rows, weather_age(replica, _AIRPORT, known)
    home.redis.kill()
    time.sleep(down_s)
    down = weather_age(replica, _AIRPORT, known)
    home.redis.start()
    left = len(home.kept(wanted).rows)
    complete_s = awaited(lambda: rows.keys() <= home.kept(wanted).rows.keys(), 2 * COMPLETE_S)
    awaited(lambda: weather_age(replica, _AIRPORT, known) is not None, WORST_S)  # the replica connects anew within a moment
    return Loss(len(rows), left, complete_s, (before, down, weather_age(replica, _AIRPORT, known)))


def check(seen: Lost) -> Finding:
    """Nobody notices but by features that are not known, and these come back by themselves."""
    broken = failures(seen.requests) + unlogged(seen.requests, seen.stored) + rows_broken(seen.streamed)
    slow = [request for request in seen.requests if request.seconds >= WORST_S]
    broken += few([f"request {r.id} took {r.seconds:.2f} s, allowed are less than {WORST_S:.0f}" for r in slow])
    for number, loss in enumerate(seen.losses, 1):
        if loss.left >= loss.rows:
            broken += (f"loss {number}: {loss.left} of {loss.rows} rows were left, so the fault did not bite",)
        if loss.complete_s > COMPLETE_S:
            broken += (f"loss {number}: the {loss.rows} rows were complete after {loss.complete_s:.1f} s, allowed are {COMPLETE_S:.0f}",)
        if loss.ages != (0.0, None, 0.0):
            before, down, after = loss.ages
            broken += (f"loss {number}: a fact's age was {before} s before, {down} s without the store, {after} s after; not 0, None, 0",)
    if not seen.losses or not seen.requests:
        broken += ("nothing was lost or nobody asked, so nothing was tried",)
    failed = sum(request.status != 200 for request in seen.requests)
    rows, complete_s = max((loss.rows for loss in seen.losses), default=0), max((loss.complete_s for loss in seen.losses), default=0.0)
    measured = (
        f"{len(seen.losses)} losses of {rows} rows, complete again ≤ {complete_s:.1f} s, {len(seen.requests)} requests, {failed} failed, "
        f"p99 {percentile_ms(seen.requests, 0.99):.0f} ms"
    )
    return Finding(measured, broken)


E3 = Fault(
    "E3",
    "online store empty",
    "Redis is killed and started again empty, while the service answers from it and facts go on.",
    "Answers go on, with features missing for a while; the rows are rebuilt from the log by themselves.",
    "0 failed, complete again ≤ 30 s",
    run,
    check,
    needs=(PROGRAM,),
    kills_broker=True,
)
