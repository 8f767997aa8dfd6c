"""Topics on a broker for a run that begins anew."""

from mlops_lab.bootstrap.broker import broker_of
from mlops_lab.bootstrap.chosen import chosen
from mlops_lab.bootstrap.lab import Lab
from mlops_lab.errors import HomeInUse
from mlops_lab.events import CONTROL, OBSERVATIONS


def require_fresh_topics(lab: Lab) -> None:
    """Make the topics that are missing; with the embedded log, which lies in the home, there is nothing to do.

    Raises:
        HomeInUse: They hold events of an earlier run, which this one would take for its own.
        BusUnreachable, TopicDiffers: See `ensure_topics`.
    """
    if chosen(lab.settings).bus != "kafka":
        return
    from mlops_lab.events.on_kafka_topics import ensure_topics  # late: only where Kafka is used

    ensure_topics(broker_of(lab.settings.events))
    for topic in (CONTROL, OBSERVATIONS):
        if any(lab.bus.head(topic, partition) for partition in range(lab.bus.partitions(topic))):
            prefix = lab.settings.events.prefix
            raise HomeInUse(
                f"The topics called '{prefix}...' at {lab.settings.events.kafka} hold events of an earlier run.",
                f"set LAB_EVENTS__PREFIX to another prefix, such as '{prefix}2.', or delete those topics.",
            )
