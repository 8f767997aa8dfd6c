"""What the tests of this folder rely on: parts that answer, and a place of its own for each test."""

import redis
from confluent_kafka.admin import AdminClient, NewTopic

from mlops_lab.settings import EventSettings, FeatureSettings


def test_a_broker_makes_no_topic_by_accident(events_on_kafka: EventSettings) -> None:
    """The tests of missing topics mean nothing on a broker that makes them at first sight."""
    admin = AdminClient({"bootstrap.servers": events_on_kafka.kafka})
    name = f"{events_on_kafka.prefix}nobody-made-this"

    assert admin.list_topics(name, timeout=10).topics[name].error is not None
    assert name not in admin.list_topics(timeout=10).topics


def test_topics_can_be_made_and_are_the_tests_own(events_on_kafka: EventSettings) -> None:
    admin = AdminClient({"bootstrap.servers": events_on_kafka.kafka})
    name = f"{events_on_kafka.prefix}mine"

    admin.create_topics([NewTopic(name, 2, 1)])[name].result(timeout=10)

    assert len(admin.list_topics(name, timeout=10).topics[name].partitions) == 2


def test_a_redis_database_is_empty_and_the_tests_own(features_on_redis: FeatureSettings) -> None:
    with redis.Redis.from_url(features_on_redis.redis) as store:
        assert store.dbsize() == 0
        store.set("mine", 1)
        assert store.dbsize() == 1
