"""E1: the broker is killed again and again, while facts and outcomes are published and worked on."""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

from mlops_lab.chaos.disorder import in_disorder
from mlops_lab.chaos.fault import Fault, Finding, Size
from mlops_lab.chaos.happenings import happenings
from mlops_lab.chaos.outages import Outage, publishers_broken
from mlops_lab.chaos.publish import Accepted
from mlops_lab.chaos.redis_server import PROGRAM
from mlops_lab.chaos.stream_home import brokered_home, sent_of
from mlops_lab.chaos.streamed import Rest, Streamed, lost_on_topic, order_broken, outcomes_broken, rests_broken, rows_broken, tally
from mlops_lab.chaos.world import World

PER_SECOND = 100.0
COMPLETE_S = 90.0

_UP_S = (0.5, 4.0)
_DOWN_S = (0.0, 3.0)


@dataclass(frozen=True)
class Killed:
    """The evidence.

    Attributes:
        streamed: What was sent, and where it ended.
        outages: From each kill until the broker answered again.
        accepted: The publisher's history.
        rests: The moments after each at which all that was sent had to be in the rows.
    """

    streamed: Streamed
    outages: Sequence[Outage]
    accepted: Sequence[Accepted]
    rests: Sequence[Rest]


def run(world: World, seed: int, size: Size) -> Killed:
    """Kill it at random moments; everything else runs on."""
    chance = random.Random(seed)
    with brokered_home(world) as home:
        days = happenings(world.year, size.of(8, 30), seed, reports=True)
        sendings = in_disorder(days, chance, new_ids=False)
        outages: list[Outage] = []
        rests: list[Rest] = []
        with home.publisher(sendings, PER_SECOND) as publisher, home.processor() as processor, home.watcher() as watcher:
            processor.spawn()
            watcher.start()
            processor.await_ready()
            publisher.spawn()
            publisher.await_accepted(1)
            while len(outages) < size.of(3, 20) and not rests_broken(rests):
                time.sleep(chance.uniform(*_UP_S))
                with Outage.of(world, outages):
                    time.sleep(chance.uniform(*_DOWN_S))
                rests.append(home.at_rest(sendings, publisher, COMPLETE_S))
            publisher.end(150.0)
            sent = sent_of(sendings, publisher)
            home.await_rows(sent, COMPLETE_S)
            home.await_outcomes(sent, COMPLETE_S)
            processor.end()
            watcher.end()
        return Killed(home.evidence(sent, outcomes=True), outages, publisher.accepted(), rests)


def check(seen: Killed) -> Finding:
    """What was accepted is where it belongs, once, and in order."""
    streamed, outages = seen.streamed, seen.outages
    broken = (
        rests_broken(seen.rests) + rows_broken(streamed) + lost_on_topic(streamed) + order_broken(streamed.laid) + outcomes_broken(streamed)
    )
    broken += publishers_broken(seen.accepted)
    if not outages:
        broken += ("the broker was never killed, so nothing was tried",)
    away_s = max((each.seconds for each in outages), default=0.0)
    measured = (
        f"{len(outages)} kills, broker away ≤ {away_s:.1f} s, {len(streamed.facts)} facts, {len(streamed.reports)} outcomes, "
        f"{tally(streamed.difference(), seen.rests)}, {streamed.sent_again} sent again by retries, order kept"
    )
    return Finding(measured, broken)


E1 = Fault(
    "E1",
    "kill -9 of the broker",
    "Kafka is killed at random moments and started again, while facts and outcomes are published, folded into rows and taken into tables.",
    "What a publisher was told is accepted is in the rows, and every outcome in its table once; no event overtakes another of its key.",
    "20 kills, 0 lost, 0 double effects",
    run,
    check,
    needs=(PROGRAM,),
    kills_broker=True,
)
