"""What is measured with: facts of the real year, and the buses and stores that answer."""

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlops_lab.bootstrap import Lab
from mlops_lab.bootstrap.chosen import Bus, Store
from mlops_lab.errors import LabError, UsageError
from mlops_lab.events import Message
from mlops_lab.features.in_memory import MemoryRows
from mlops_lab.features.processor import Processor
from mlops_lab.features.rows import RowWriter
from mlops_lab.flights.source import load
from mlops_lab.flights.timeline import Timeline
from mlops_lab.settings import Settings

SEED = 7


def facts(data: Path, count: int) -> list[Message]:
    """So many facts from April on, in order of event time."""
    found: list[Message] = []
    year = Timeline(load(data), SEED)
    for step in year.steps(datetime(2013, 4, 1, tzinfo=UTC), datetime(2014, 1, 1, tzinfo=UTC), questions=False):
        found += step.facts
        if len(found) >= count:
            break
    return found[:count]


def elsewhere(fact: Message, world: int) -> Message:
    """The same fact in another world: other airports, other aircraft, other flights."""
    mark = f"~{world}"
    named = {name: f"{value}{mark}" for name in ("flight_id", "tail_number", "origin", "destination") if (value := fact.data.get(name))}
    return replace(fact, id=fact.id + mark, subject=fact.subject + mark, data={**fact.data, **named})


@dataclass(frozen=True)
class Pair:
    """A bus and a store: `memory` is the twin in this process."""

    bus: Bus
    store: Store | str

    @property
    def name(self) -> str:
        stores = {"memory": "rows in a dictionary", "sqlite": "Feast on SQLite", "redis": "Feast on Redis"}
        return f"{'Kafka' if self.bus == 'kafka' else 'embedded log'}, {stores[self.store]}"


PAIRS = (Pair("embedded", "memory"), Pair("embedded", "sqlite"), Pair("kafka", "memory"), Pair("kafka", "redis"))


@dataclass
class Place:
    """Parts that are open: a lab on them, the store, and how to make a processor that begins where the group has come to."""

    lab: Lab
    store: RowWriter
    processor: Callable[..., Processor]


@contextmanager
def opened(pair: Pair, settings: Settings, home: Path) -> Iterator[Place]:
    """Parts of their own, empty, and gone afterwards.

    Raises:
        LabError: They do not answer, or the database of Redis is not empty: it would be emptied afterwards.
    """
    prefix = f"bench-{uuid.uuid4().hex[:8]}."
    lab = Lab(
        settings.model_copy(
            update={
                "home": home,
                "events": settings.events.model_copy(update={"bus": pair.bus, "prefix": prefix}),
                "features": settings.features.model_copy(update={"store": "sqlite" if pair.store == "memory" else pair.store}),
            }
        )
    )
    home.mkdir(parents=True, exist_ok=True)
    with topics(lab, pair), rows(lab, pair) as store:
        make = _maker(lab, store)
        yield Place(lab, store, make)


def _maker(lab: Lab, store: RowWriter) -> Callable[..., Processor]:
    def make(**others: Any) -> Processor:
        given = {"bus": lab.bus, "types": lab.event_types, "new_state": lab.use_case.row_state, "writer": store, "clock": lab.clock}
        return Processor(**(given | others))

    return make


@contextmanager
def topics(lab: Lab, pair: Pair) -> Iterator[None]:
    """On a broker, topics under a prefix of their own, deleted afterwards."""
    if pair.bus != "kafka":
        yield
        return
    from confluent_kafka.admin import AdminClient

    from mlops_lab.bootstrap.broker import broker_of
    from mlops_lab.events.on_kafka_topics import ensure_topics

    broker = broker_of(lab.settings.events)
    made = [topic.name for topic in ensure_topics(replace(broker, timeout_s=5.0))]
    try:
        yield
    finally:
        lab.bus.close()  # type: ignore[attr-defined]  # a broker's bus has connections
        admin = AdminClient(broker.client_config())
        for removal in admin.delete_topics(made).values():
            removal.result(timeout=30)


@contextmanager
def rows(lab: Lab, pair: Pair) -> Iterator[RowWriter]:
    """The store, empty."""
    if pair.store == "memory":
        yield MemoryRows()
        return
    from mlops_lab.bootstrap.feature_store import feature_store

    store = feature_store(lab.settings)
    server = redis_of(lab.settings) if pair.store == "redis" else None
    ours = False
    try:
        if server is not None and server.dbsize():
            raise UsageError(
                f"The database of Redis at {lab.settings.features.redis.rpartition('@')[2]} is not empty.",
                "name one that may be emptied by LAB_FEATURES__REDIS, such as redis://127.0.0.1:6379/9.",
            )
        ours = True
        store.apply()
        yield store
    finally:
        store.close()
        if server is not None:
            if ours:
                server.flushdb()
            server.close()


def redis_of(settings: Settings) -> Any:
    """A plain client. Raises LabError where Redis does not answer."""
    import redis

    password = settings.features.redis_password_file
    server = redis.Redis.from_url(settings.features.redis, socket_timeout=5, password=password.read_text().strip() if password else None)
    try:
        server.ping()
    except redis.RedisError as error:
        server.close()
        raise LabError(f"Redis does not answer: {error}.", "name one by LAB_FEATURES__REDIS.") from error
    return server


def publish(place: Place, topic: str, messages: Sequence[Message]) -> None:
    """In parts, as publishers do."""
    for start in range(0, len(messages), 5000):
        place.lab.bus.publish(topic, messages[start : start + 5000])
