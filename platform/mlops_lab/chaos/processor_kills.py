"""E2 and E5: the stream processor is killed at random moments, while facts come twice, out of order, late, and some that are none."""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from mlops_lab.chaos.disorder import Sending, in_disorder, shares_of
from mlops_lab.chaos.fault import Fault, Finding, Size
from mlops_lab.chaos.folded import difference
from mlops_lab.chaos.happenings import happenings
from mlops_lab.chaos.kept_rows import NOTHING
from mlops_lab.chaos.redis_server import PROGRAM
from mlops_lab.chaos.stream_home import StreamHome, brokered_home, embedded_home, sent_of
from mlops_lab.chaos.streamed import (
    Rest,
    Streamed,
    dead_broken,
    disorder_missed,
    lost_on_topic,
    order_broken,
    rests_broken,
    rows_broken,
    tally,
    wanted_rows,
)
from mlops_lab.chaos.world import World
from mlops_lab.errors import FeatureStoreUnreachable
from mlops_lab.features.rows import RowRef

PER_SECOND = 300.0
POISON_SHARE = 0.004
COMPLETE_S = 90.0

_AT_WORK_S = (0.2, 3.0)
_STARTS_S = 8.0  # a fifth of the kills come while it starts


@dataclass(frozen=True)
class Killed:
    """The evidence.

    Attributes:
        streamed: What was sent, and where it ended.
        kills: How often the processor was killed.
        caught: How many of them found it with facts that were not in rows yet.
        rests: The moments after a restart at which all that was sent had to be in the rows.
        again: The rows after the store was emptied and the topics were read from their start.
    """

    streamed: Streamed
    kills: int
    caught: int
    rests: Sequence[Rest]
    again: Mapping[RowRef, bytes]


def _run(home_of: Callable[[World], AbstractContextManager[StreamHome]], world: World, seed: int, size: Size) -> Killed:
    chance, most = random.Random(seed), size.of(3, 20)
    with home_of(world) as home:
        facts = happenings(world.year, size.of(10, 40), seed)
        sendings = in_disorder(facts, chance, new_ids=home.broker is None, poison_share=POISON_SHARE)
        kills = caught = 0
        rests: list[Rest] = []
        with home.publisher(sendings, PER_SECOND) as publisher, home.processor() as processor:
            publisher.spawn()
            publisher.await_accepted(1)
            while kills < most and not rests_broken(rests):
                if kills % 5 == 4:
                    processor.spawn()
                    time.sleep(chance.uniform(0, _STARTS_S))
                else:
                    processor.start()
                    rests.append(home.at_rest(sendings, publisher, COMPLETE_S))
                    time.sleep(chance.uniform(*_AT_WORK_S))
                processor.kill()
                kills += 1
                if kills % 2:  # else the stream goes on, and there is much to do after the next start
                    publisher.hold()
                caught += _behind(home, sent_of(sendings, publisher))
                if kills % 3 == 1:
                    home.put_raw(kills)
            processor.start()
            rests.append(home.at_rest(sendings, publisher, COMPLETE_S))
            publisher.end(120.0)
            sent = sent_of(sendings, publisher)
            home.await_rows(sent, COMPLETE_S)
            processor.end()
            streamed = home.evidence(sent)
            home.begin_again()
            processor.start()
            home.await_rows(sent, COMPLETE_S)
            processor.end()
            again = home.kept(wanted_rows(sent))
    return Killed(streamed, kills, caught, rests, again.rows)


def _behind(home: StreamHome, sent: Sequence[Sending]) -> bool:
    wanted = wanted_rows(sent)
    try:
        kept = home.kept(wanted)
    except FeatureStoreUnreachable:
        kept = NOTHING
    return kept.rows != wanted


def run_brokered(world: World, seed: int, size: Size) -> Killed:
    """On a broker and Redis."""
    return _run(brokered_home, world, seed, size)


def run_embedded(world: World, seed: int, size: Size) -> Killed:
    """On SQLite alone."""
    return _run(embedded_home, world, seed, size)


def check(seen: Killed) -> Finding:
    """Rows are those of what was sent, dead letters what cannot be used, and reading everything again gives the same."""
    streamed = seen.streamed
    broken = rests_broken(seen.rests) + rows_broken(streamed) + lost_on_topic(streamed) + order_broken(streamed.laid)
    broken += dead_broken(streamed) + disorder_missed(streamed)
    replayed = difference(streamed.rows, seen.again)
    broken += tuple(f"read again from the start: {sentence}" for sentence in replayed.broken)
    if not seen.caught:
        broken += ("no kill found the processor with work to do, so nothing was tried",)
    measured = (
        f"{seen.kills} kills, {seen.caught} of them at work, {len(streamed.facts)} facts ({shares_of(streamed.sent)}), "
        f"{len(streamed.rows)} rows, {tally(streamed.difference(), seen.rests)}, {len(streamed.letters)} dead letters, "
        "the same when read again"
    )
    return Finding(measured, broken)


def _fault(identifier: str, title: str, does: str, **how: Any) -> Fault[Killed]:
    promise = "Rows are those of the facts that were sent, dead letters exactly what cannot be used, and a replay gives the same rows."
    return Fault(identifier, title, does, promise, "20 kills, 0 lost, 0 double, replay identical", check=check, **how)


_DISORDER = "while 10 % of the facts come twice, 20 % out of order, 5 % late, and some that cannot be used."

E2 = _fault(
    "E2",
    "kill -9 of the stream processor",
    f"On Kafka and Redis, the stream processor is killed at random moments, {_DISORDER}",
    run=run_brokered,
    needs=(PROGRAM,),
    kills_broker=True,
)
E5 = _fault(
    "E5",
    "kill -9 of the stream processor, embedded",
    f"On the embedded bus and store, the stream processor is killed at random moments, {_DISORDER}",
    run=run_embedded,
)
