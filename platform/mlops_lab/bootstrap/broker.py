"""The Kafka broker that the settings name."""

from mlops_lab.events.broker import Broker
from mlops_lab.settings import EventSettings


def broker_of(events: EventSettings) -> Broker:
    """Where and how; nothing is opened."""
    return Broker(
        servers=events.kafka,
        prefix=events.prefix,
        replication=events.replication,
        security=events.security,
        mechanism=events.mechanism,
        user=events.user,
        password_file=events.password_file,
        ca_file=events.ca_file,
        timeout_s=events.timeout_s,
    )
