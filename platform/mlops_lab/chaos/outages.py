"""E4: the broker is away for long; publishers go on, and what they spooled arrives when it is back."""

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from mlops_lab.chaos.disorder import Sending, in_disorder
from mlops_lab.chaos.fault import Fault, Finding, Size, few
from mlops_lab.chaos.happenings import happenings
from mlops_lab.chaos.process import awaited
from mlops_lab.chaos.publish import Accepted
from mlops_lab.chaos.redis_server import PROGRAM
from mlops_lab.chaos.stream_home import StreamHome, brokered_home, sent_of
from mlops_lab.chaos.streamed import Streamed, lost_on_topic, order_broken, rows_broken
from mlops_lab.chaos.world import World
from mlops_lab.events import REFERENCES

PER_SECOND = 100.0
COMPLETE_S = 90.0
DRAINED_S = 60.0
"""Ten minutes leave 60,000 events; the broker has them a minute after it is back."""
BLOCKED_S = 10.0
"""A publisher finds out within the broker's timeout, which is three seconds here, that it has to spool."""
GOES_ON_SHARE = 0.3
"""Of its pace, over the whole outage: of a short one, finding out and starting again take a good part."""


@dataclass(frozen=True)
class Outage:
    """One time without the broker, on the monotonic clock of the machine, in ns."""

    began_ns: int
    ended_ns: int

    @property
    def seconds(self) -> float:
        return (self.ended_ns - self.began_ns) / 1e9

    def during(self, accepted: Sequence[Accepted]) -> list[Accepted]:
        """What was accepted meanwhile."""
        return [each for each in accepted if self.began_ns < each.done_ns < self.ended_ns]

    @classmethod
    @contextmanager
    def of(cls, world: World, into: "list[Outage]") -> Iterator[None]:
        """The broker is killed, and started again behind what is done in the context."""
        assert world.broker is not None, "the runner asks for it before"
        world.broker.kill()
        began = time.monotonic_ns()
        try:
            yield
        finally:
            world.broker.start()
            into.append(cls(began, time.monotonic_ns()))


@dataclass(frozen=True)
class Away:
    """The evidence.

    Attributes:
        streamed: What was sent, and where it ended.
        outage: The time without the broker.
        accepted: The publisher's history; it was killed in the middle of the outage and started again.
        drained_s: From the broker's return until all that had been accepted before lay on its topics.
        complete_s: From the last sending until the rows were complete.
    """

    streamed: Streamed
    outage: Outage
    accepted: Sequence[Accepted]
    drained_s: float
    complete_s: float


def run(world: World, seed: int, size: Size) -> Away:
    """Keep it away; the publisher dies in the middle of that, with what it has spooled."""
    chance, seconds = random.Random(seed), size.of(15, 600)
    with brokered_home(world) as home:
        sendings = in_disorder(happenings(world.year, size.of(8, 45), seed), chance, new_ids=False)
        outages: list[Outage] = []
        with home.publisher(sendings, PER_SECOND) as publisher, home.processor() as processor:
            processor.start()
            publisher.spawn()
            publisher.await_accepted(200)
            first = seconds * chance.uniform(0.4, 0.7)
            with Outage.of(world, outages):
                time.sleep(first)
                publisher.kill()
                publisher.spawn()
                time.sleep(seconds - first)
            drained_s = _drained(home, sent_of(sendings, publisher))
            publisher.end(150.0)
            sent = sent_of(sendings, publisher)
            complete_s = home.await_rows(sent, COMPLETE_S)
            processor.end()
        return Away(home.evidence(sent), outages[0], publisher.accepted(), drained_s, complete_s)


def _drained(home: StreamHome, sent: Sequence[Sending]) -> float:
    """Wait until all of it lies on its topics. Returns the seconds; infinite when it does not in time."""
    wanted = {(each.topic, each.message.id) for each in sent if each.topic != REFERENCES}
    with home.topics() as topics:

        def arrived() -> bool:
            wanted.difference_update((each.topic, each.event["id"]) for each in topics.read() if each.event)
            return not wanted

        return awaited(arrived, DRAINED_S)


def publishers_broken(accepted: Sequence[Accepted]) -> tuple[str, ...]:
    """What breaks the promise that a publisher does not notice an outage, but for the time in which it is found out."""
    refused = [f"up to sending {each.until}, `publish` refused {each.refused} times" for each in accepted if each.refused]
    slow = [f"up to sending {each.until}, `publish` took {each.seconds:.1f} s, allowed are {BLOCKED_S:.0f}" for each in accepted]
    return few(refused) + few([said for said, each in zip(slow, accepted, strict=True) if each.seconds > BLOCKED_S])


def check(seen: Away) -> Finding:
    """Nothing is lost, nothing overtakes, and it is there soon after the broker is."""
    streamed, outage = seen.streamed, seen.outage
    broken = rows_broken(streamed) + lost_on_topic(streamed) + order_broken(streamed.laid) + publishers_broken(seen.accepted)
    spooled = outage.during(seen.accepted)
    events = spooled[-1].until - spooled[0].until if spooled else 0
    if not spooled:
        broken += ("nothing was published while the broker was away, so nothing was tried",)
    elif events < GOES_ON_SHARE * PER_SECOND * outage.seconds:
        pace = events / outage.seconds
        broken += (f"publishers went on at {pace:.1f} events a second, allowed are not less than {GOES_ON_SHARE * PER_SECOND:.0f}",)
    if seen.drained_s > DRAINED_S:
        broken += (f"what was accepted lay on its topics {seen.drained_s:.1f} s after the broker was back, allowed are {DRAINED_S:.0f}",)
    found = streamed.difference()
    slowest = max((each.seconds for each in seen.accepted), default=0.0)
    measured = (
        f"{outage.seconds:.0f} s away, {events} events spooled, 1 kill of the publisher, drained {seen.drained_s:.1f} s after the return, "
        f"{found.lost} lost, {found.doubled} double, order kept, {streamed.sent_again} sent again, publish ≤ {slowest:.1f} s"
    )
    return Finding(measured, broken)


E4 = Fault(
    "E4",
    "broker away for long",
    "Kafka is killed and stays away for ten minutes, while facts are published; their publisher is killed and started again meanwhile.",
    "Publishers go on and spool, nothing is lost, nothing overtakes, and all of it arrives when the broker is back.",
    "10 minutes, 0 lost, order kept, drained ≤ 60 s",
    run,
    check,
    needs=(PROGRAM,),
    kills_broker=True,
)
