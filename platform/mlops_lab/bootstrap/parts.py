"""The parts that a home works with, and whether they answer."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from mlops_lab.bootstrap.broker import broker_of
from mlops_lab.bootstrap.chosen import chosen
from mlops_lab.errors import LabError, ServiceError
from mlops_lab.settings import Settings

PATIENCE_S = 3.0


class Part(NamedTuple):
    """One part.

    Attributes:
        name: `events` or `features`.
        kind: As `lab up --with` calls it; `process` where features are in the service's own.
        address: Where it is.
        trouble: Why it cannot be worked with; empty when it can.
        next: What to do about it.
    """

    name: str
    kind: str
    address: str
    trouble: str = ""
    next: str = ""


def parts_of(settings: Settings) -> list[Part]:
    """Bus and store, each asked within seconds. Nothing is changed. Raises SettingsWrong."""
    return [_events(settings), features_part(settings)]


def make_ready(settings: Settings, say: Callable[[str], object]) -> None:
    """Make topics where they are missing, then see that every part answers.

    Raises:
        ServiceError: One does not.
        SettingsWrong: The parts do not go together.
    """
    if chosen(settings).bus == "kafka":
        from mlops_lab.events.on_kafka_topics import ensure_topics

        made = [topic.name for topic in ensure_topics(broker_of(settings.events)) if topic.made]
        say(f"Kafka at {settings.events.kafka}: " + (f"{len(made)} topics made" if made else "all topics are there"))
    for part in parts_of(settings):
        if part.trouble:
            raise ServiceError(part.trouble, part.next)


def _events(settings: Settings) -> Part:
    kind = chosen(settings).bus
    if kind == "embedded":
        return Part("events", kind, str(settings.bus_file))
    from mlops_lab.events.on_kafka_topics import MUST_AGREE, describe_topics  # late: only where Kafka is used

    part = Part("events", kind, settings.events.kafka)
    try:
        broker = broker_of(settings.events)
        found = describe_topics(replace(broker, timeout_s=min(broker.timeout_s, PATIENCE_S)))
    except LabError as error:
        return part._replace(trouble=error.what, next=error.next_step)
    if missing := [topic.name for topic in found if not topic.partitions]:
        return part._replace(
            trouble=f"{len(missing)} of {len(found)} topics are missing, such as '{missing[0]}'.",
            next="`lab events topics --create` makes them, and so does `lab up --with kafka,...`.",
        )
    for topic in found:
        for what, there, wanted in topic.differs:
            if what in MUST_AGREE:
                return part._replace(
                    trouble=f"Topic '{topic.name}' has {what} {there}, and {wanted} is asked for.",
                    next="make it anew when what it holds may go, or work under another LAB_EVENTS__PREFIX.",
                )
    return part


def features_part(settings: Settings) -> Part:
    """The store, asked within seconds. Raises SettingsWrong."""
    kind = chosen(settings).store
    if kind == "process":
        return Part("features", kind, "each replica's own process")
    from mlops_lab.features.on_redis import RedisProgress
    from mlops_lab.features.on_sqlite import FILE
    from mlops_lab.features.redis_address import Address

    if kind == "sqlite":
        return Part("features", kind, str(settings.home / FILE))
    part = Part("features", kind, settings.features.redis.rpartition("@")[2].removeprefix("redis://"))
    try:
        address = Address.of(settings.features.redis, settings.features.redis_password_file)
        keeper = RedisProgress(address, timeout_s=PATIENCE_S)
        try:
            keeper.read()
            policy = keeper.evicts()
        finally:
            keeper.close()
    except LabError as error:
        return part._replace(trouble=error.what, next=error.next_step)
    if policy:
        return part._replace(
            trouble=f"Redis at {part.address} drops rows when its memory is full (maxmemory-policy {policy}), and nothing says so.",
            next="have writes fail instead: `redis-cli CONFIG SET maxmemory-policy noeviction`, and the same in its configuration file.",
        )
    return part
