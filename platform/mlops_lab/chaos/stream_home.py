"""A home whose facts a stream processor turns into rows of an online store; on the embedded parts, or on a broker and Redis."""

import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_lab.bootstrap import Lab
from mlops_lab.bootstrap.founding import found
from mlops_lab.chaos import bus_file, kept_rows
from mlops_lab.chaos.broker import Broker
from mlops_lab.chaos.disorder import Sending, write
from mlops_lab.chaos.folded import difference
from mlops_lab.chaos.kept_rows import Kept
from mlops_lab.chaos.process import Worker, awaited
from mlops_lab.chaos.publish import Plan, Publisher, until
from mlops_lab.chaos.redis_server import RedisServer
from mlops_lab.chaos.streamed import POISON, Laid, Rest, Streamed, wanted_rows
from mlops_lab.chaos.world import Sections, World
from mlops_lab.events import FEEDBACK, OBSERVATIONS, REFERENCES
from mlops_lab.events.topics import dead_of
from mlops_lab.features.on_sqlite import FILE
from mlops_lab.features.rows import RowRef

if TYPE_CHECKING:
    from mlops_lab.chaos.on_kafka import Topics

PROCESSOR, WATCHER = "mlops_lab.pipelines.feature_worker", "mlops_lab.pipelines.worker"
GROUP = "features"

_TOPICS = (OBSERVATIONS, REFERENCES, FEEDBACK, dead_of(OBSERVATIONS), dead_of(REFERENCES), dead_of(FEEDBACK))
_TIMEOUT_S = 3.0  # of the broker, for processes: an outage of some seconds is one


class StreamHome:
    """One home, what runs in it, and what lies in its bus, store and tables in the end.

    Args:
        lab: Its ports.
        redis: Its online store; None for SQLite.
        broker: Its bus; None for the embedded one.
    """

    def __init__(self, lab: Lab, redis: RedisServer | None = None, broker: Broker | None = None) -> None:
        self.lab = lab
        self.redis = redis
        self.broker = broker

    @property
    def path(self) -> Path:
        return self.lab.home

    @property
    def variables(self) -> dict[str, str]:
        """The settings of this home, for its processes."""
        events, features = self.lab.settings.events, self.lab.settings.features
        named = {"LAB_HOME": str(self.path), "LAB_EVENTS__BUS": events.bus, "LAB_FEATURES__STORE": features.store}
        if self.broker is not None:
            named |= dict(self.broker.variables)
            named |= {"LAB_EVENTS__PREFIX": events.prefix, "LAB_EVENTS__TIMEOUT_S": str(events.timeout_s)}
        return named | ({"LAB_FEATURES__REDIS": features.redis} if self.redis else {})

    def processor(self) -> Worker:
        """The stream processor, not started yet."""
        return Worker([sys.executable, "-m", PROCESSOR], self.variables, self.path, "features")

    def watcher(self) -> Worker:
        """The worker that takes in feedback, not started yet."""
        return Worker([sys.executable, "-m", WATCHER, "watcher"], self.variables, self.path, "watcher")

    def publisher(self, sendings: Iterable[Sending], per_second: float, name: str = "publisher") -> Publisher:
        """Who sends, not started yet."""
        at = self.path / f"{name}.sendings.jsonl"
        write(sendings, at)
        return Publisher(Plan(str(at), str(self.path / f"{name}.jsonl"), per_second), self.variables, self.path / f"{name}.stderr")

    def put_raw(self, number: int) -> None:
        """Put bytes among the observations that are no event."""
        content = b"%b %d: no event" % (POISON, number)
        if self.broker is None:
            bus_file.put_raw(self.path / "bus.db", OBSERVATIONS, f"poison-{number}", content.decode())
        else:
            from mlops_lab.chaos import on_kafka

            on_kafka.put_raw(self._kafka(), self.lab.settings.events.prefix + OBSERVATIONS, f"poison-{number}", content)

    def kept(self, possible: Iterable[RowRef]) -> Kept:
        """What lies in the online store now. Raises FeatureStoreUnreachable where it does not answer."""
        if self.redis is None:
            return kept_rows.in_sqlite(self.path / FILE, possible)
        connection = self.redis.connect()
        try:
            return kept_rows.in_redis(connection, possible)
        finally:
            connection.close()

    def laid(self) -> tuple[list[Laid], list[Laid]]:
        """What lies on the topics now, and what on those of dead letters."""
        if self.broker is None:
            found = [each for topic in _TOPICS for each in bus_file.laid_in(self.path / "bus.db", topic)]
        else:
            with self.topics() as topics:
                found = topics.read()
        dead = [each for each in found if each.topic.endswith(".dead")]
        return [each for each in found if not each.topic.endswith(".dead")], dead

    @contextmanager
    def topics(self) -> "Iterator[Topics]":
        """A reader of the broker's topics from their beginning."""
        from mlops_lab.chaos import on_kafka

        with on_kafka.Topics(self._kafka(), self.lab.settings.events.prefix, _TOPICS) as topics:
            yield topics

    def outcomes(self) -> list[str]:
        """The event ids in the table of outcomes, one for each row."""
        from mlops_lab.data.label import OUTCOMES

        assert self.lab.reported  # which declares the table
        return [str(each) for each in self.lab.tables.read(OUTCOMES, columns=["event_id"])["event_id"]]

    def await_rows(self, sent: Sequence[Sending], within_s: float) -> float:
        """Wait until the rows are those of what was sent. Returns the seconds; infinite when they are not in time."""
        wanted = wanted_rows(sent)
        return awaited(lambda: self.kept(wanted) == Kept(wanted, 0), within_s)

    def at_rest(self, sendings: Sequence[Sending], publisher: Publisher, within_s: float) -> Rest:
        """Have the publisher wait until all that it sent is in the rows; then it goes on.

        Windows move on with the stream: a fact that got lost would be forgotten with the right ones before the end.
        """
        publisher.hold()
        wanted = wanted_rows(sent_of(sendings, publisher))
        seconds = awaited(lambda: self.kept(wanted) == Kept(wanted, 0), within_s)
        found = difference(wanted, self.kept(wanted).rows)
        publisher.go_on()
        return Rest(seconds, found)

    def await_outcomes(self, sent: Sequence[Sending], within_s: float) -> float:
        """Wait until all reported outcomes are in their table. Returns the seconds; infinite when they are not in time."""
        reported = {each.message.id for each in sent if each.topic == FEEDBACK}
        return awaited(lambda: reported <= set(self.outcomes()), within_s)

    def evidence(self, sent: Sequence[Sending], *, outcomes: bool = False) -> Streamed:
        """All that can be seen from outside, when everything has ended."""
        wanted = wanted_rows(sent)
        (laid, dead), kept = self.laid(), self.kept(wanted)
        return Streamed(sent, laid, dead, kept.rows, kept.strangers, self.outcomes() if outcomes else ())

    def begin_again(self) -> None:
        """Empty the online store and set the processor's offsets back to the start, while it does not run."""
        if self.redis is None:
            for path in self.path.glob(f"{FILE}*"):
                path.unlink()
        else:
            self.redis.kill()
            self.redis.start()
        for topic in (OBSERVATIONS, REFERENCES):
            for partition in range(self.lab.bus.partitions(topic)):
                self.lab.bus.commit(GROUP, topic, 0, partition)

    def close(self) -> None:
        """Let go of the bus, and delete what is its own on a broker."""
        self.lab.bus.close()  # type: ignore[attr-defined]  # each bus that a home can have has it
        if self.broker is not None:
            from mlops_lab.chaos import on_kafka

            self.broker.start()
            on_kafka.delete_topics(self._kafka(), self.lab.settings.events.prefix)

    def _kafka(self) -> dict[str, str | int]:
        from mlops_lab.bootstrap.broker import broker_of

        return broker_of(self.lab.settings.events).client_config()


@contextmanager
def embedded_home(world: World) -> Iterator[StreamHome]:
    """On the SQLite bus, with rows in Feast's SQLite store."""
    lab = world.fresh({"events": {"bus": "embedded"}, "features": {"store": "sqlite"}})
    found(lab)
    home = StreamHome(lab)
    try:
        yield home
    finally:
        home.close()


@contextmanager
def brokered_home(world: World, lab_of: Callable[[Sections], Lab] | None = None) -> Iterator[StreamHome]:
    """On the broker, with rows in a Redis of its own.

    Args:
        world: With a broker.
        lab_of: Makes the home that has these settings; None makes an empty one.
    """
    from mlops_lab.bootstrap.broker import broker_of
    from mlops_lab.events.on_kafka_topics import ensure_topics

    broker = world.broker
    assert broker is not None, "the runner asks for it before"
    broker.start()
    folder = world.root / f"redis-{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    with RedisServer(folder) as redis:
        redis.start()
        sections: Sections = {
            "events": {"bus": "kafka", "prefix": f"chaos-{uuid.uuid4().hex[:12]}.", "timeout_s": _TIMEOUT_S},
            "features": {"store": "redis", "redis": redis.url},
        }
        lab = (lab_of or world.fresh)(sections)
        found(lab)
        home = StreamHome(lab, redis, broker)
        try:
            ensure_topics(broker_of(lab.settings.events))
            yield home
        finally:
            home.close()


def sent_of(sendings: Sequence[Sending], publisher: Publisher) -> Sequence[Sending]:
    """Those that were accepted."""
    return sendings[: until(publisher.accepted())]
