"""The bus on a real Kafka: what every bus keeps, how topics are made, and what it says of a broker that is not as it should be."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from bus_contract import AT, BusContract, a_fact, everything
from mlops_lab.bootstrap.broker import broker_of
from mlops_lab.errors import BusReplaced, BusUnreachable, MessageUnreadable, MessageUnsendable, TopicDiffers, TopicMissing, UnknownName
from mlops_lab.events import CONTROL, OBSERVATIONS, REFERENCES, Message, on_kafka_asker
from mlops_lab.events.broker import Broker
from mlops_lab.events.on_kafka import KafkaBus
from mlops_lab.events.on_kafka_client import make_consumer
from mlops_lab.events.on_kafka_topics import describe_topics, ensure_topics
from mlops_lab.events.spool import SpooledBus
from mlops_lab.events.topics import ALL_TOPICS, TOPICS
from mlops_lab.events.wire import encode
from mlops_lab.settings import EventSettings


@pytest.fixture
def broker(events_on_kafka: EventSettings) -> Broker:
    return broker_of(events_on_kafka)


@pytest.fixture
def bus(broker: Broker) -> Iterator[KafkaBus]:
    ensure_topics(broker)
    bus = KafkaBus(broker)
    yield bus
    bus.close()


class TestKafkaBus(BusContract):
    pass


def test_topics_are_made_as_the_table_says_and_once(broker: Broker) -> None:
    made = ensure_topics(broker)
    assert all(each.made for each in made)
    assert {each.topic.name: each.partitions for each in made} == {name: topic.partitions for name, topic in ALL_TOPICS.items()}
    assert all(each.differs == () for each in made)
    assert {each.topic.name: each.config["message.timestamp.type"] for each in made} == dict.fromkeys(ALL_TOPICS, "LogAppendTime")
    assert {each.topic.name for each in made if each.config["cleanup.policy"] == "compact"} == {REFERENCES}
    assert not any(each.made for each in ensure_topics(broker))
    assert describe_topics(broker) == [replace(each, made=False) for each in made]


def test_a_topic_with_another_number_of_partitions_is_not_used(broker: Broker) -> None:
    admin = AdminClient({"bootstrap.servers": broker.servers})
    made = admin.create_topics([NewTopic(broker.name(OBSERVATIONS), 2, 1)])
    made[broker.name(OBSERVATIONS)].result(timeout=10)
    while not any(each.partitions for each in describe_topics(broker)):  # the broker is told of a topic a moment after it was made
        time.sleep(0.05)
    with pytest.raises(TopicDiffers, match=r"partitions:? 2, and 6"):
        ensure_topics(broker)
    assert [each.topic.name for each in describe_topics(broker, TOPICS.values()) if each.partitions] == [OBSERVATIONS]
    bus = KafkaBus(broker)
    with pytest.raises(TopicDiffers):
        bus.publish(OBSERVATIONS, [a_fact(1)])
    with pytest.raises(TopicDiffers):
        bus.read(OBSERVATIONS, 0)
    bus.close()


def test_a_topic_that_is_missing_is_not_made_by_the_way(broker: Broker) -> None:
    bus = KafkaBus(broker)
    for use in (lambda: bus.publish(CONTROL, [a_fact(1)]), lambda: bus.read(CONTROL, 0), lambda: bus.head(CONTROL)):
        with pytest.raises(TopicMissing, match="lab up --with kafka"):
            use()
    assert not any(each.partitions for each in describe_topics(broker))
    with pytest.raises(UnknownName, match="did you mean 'observations'"):
        bus.publish("observation", [a_fact(1)])
    bus.close()


def test_what_is_no_event_is_named_by_its_place_and_passed_over(broker: Broker, bus: KafkaBus) -> None:
    bus.publish(CONTROL, [a_fact(1)])
    stranger = Producer({"bootstrap.servers": broker.servers})
    for value, headers in ((b"no json", []), (b"[1]", []), (b'{"n": 1}', [("ce_type", b"FlightDeparted")]), (None, [])):
        stranger.produce(broker.name(CONTROL), value, b"N1", headers=headers)
    stranger.flush(10)
    bus.publish(CONTROL, [a_fact(2)])

    assert [delivery.message.id for delivery in bus.read(CONTROL, 0)] == ["fact-1"]
    for offset, why in ((2, "no JSON"), (3, "no JSON object"), (4, "binary mode"), (5, "empty")):
        with pytest.raises(MessageUnreadable, match=why) as found:
            bus.read(CONTROL, offset - 1)
        assert found.value.offset == offset
    assert [delivery.message.id for delivery in bus.read(CONTROL, 5)] == ["fact-2"]


def test_what_is_too_large_or_no_json_is_refused_before_anything_is_sent(bus: KafkaBus) -> None:
    large = Message("FlightDeparted", AT, "EWR", {"text": "x" * 300_000}, id="large")
    with pytest.raises(MessageUnsendable, match=r"'large' .* at most 262144 are allowed; nothing was sent"):
        bus.publish(CONTROL, [a_fact(1), large])
    with pytest.raises(MessageUnsendable):
        bus.publish(CONTROL, [a_fact(1), Message("FlightDeparted", AT, "EWR", {"n": float("nan")}, id="nan")])
    assert bus.head(CONTROL) == 0


def test_a_broker_that_is_away_is_said_to_be_so_in_time() -> None:
    bus = KafkaBus(Broker("127.0.0.1:1", prefix="nowhere.", timeout_s=1.0))
    for use in (lambda: bus.publish(CONTROL, [a_fact(1)]), lambda: bus.read(CONTROL, 0), lambda: bus.committed("watcher", CONTROL)):
        with pytest.raises(BusUnreachable, match=r"127\.0\.0\.1:1 does not answer"):
            use()
    bus.close()


def test_a_topic_that_was_made_anew_is_another_log(broker: Broker, bus: KafkaBus) -> None:
    bus.publish(CONTROL, [a_fact(number) for number in range(10)])
    before = bus.log_id(CONTROL)
    assert len(list(everything(bus, CONTROL))) == 10
    admin = AdminClient({"bootstrap.servers": broker.servers})
    admin.delete_topics([broker.name(CONTROL)])[broker.name(CONTROL)].result(timeout=10)
    ensure_topics(broker)
    assert bus.log_id(CONTROL) != before
    with pytest.raises((BusReplaced, BusUnreachable)):
        bus.read(CONTROL, 10)
    assert KafkaBus(broker).head(CONTROL) == 0


def test_a_second_client_sees_what_the_first_was_told_is_there(broker: Broker, bus: KafkaBus) -> None:
    other = KafkaBus(broker)
    for number in range(20):
        bus.publish(CONTROL, [a_fact(number)])
        assert [delivery.message.data["n"] for delivery in other.read(CONTROL, number)] == [number]
    other.close()


def test_a_partition_without_a_leader_is_asked_again(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that comes back knows its topics before it may serve them: that is no missing topic."""
    answers = [KafkaError(KafkaError._UNKNOWN_PARTITION), KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)]

    class Recovering:
        def __init__(self, real: Consumer) -> None:
            self._real = real

        def get_watermark_offsets(self, *place: object, **how: object) -> object:
            if answers:
                raise KafkaException(answers.pop())
            return self._real.get_watermark_offsets(*place, **how)  # type: ignore[arg-type]

        def __getattr__(self, name: str) -> object:
            return getattr(self._real, name)

    ensure_topics(broker)
    monkeypatch.setattr(on_kafka_asker, "make_consumer", lambda *how: Recovering(make_consumer(*how)))
    bus = KafkaBus(broker)
    bus.publish(CONTROL, [a_fact(1)])
    assert bus.head(CONTROL) == 1
    assert answers == []
    bus.close()


def test_a_topic_is_missing_only_when_it_is_not_listed(
    broker: Broker, bus: KafkaBus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A publisher with a spool is told of a missing topic at once, and of nothing else: whatever passes by itself is bridged."""

    def not_known(topic: str, records: object) -> None:
        raise TopicMissing.of(broker.servers, topic)

    with monkeypatch.context() as recovering:
        recovering.setattr(bus._sender, "send", not_known)
        with pytest.raises(BusUnreachable, match="not ready yet") as found:
            bus.publish(CONTROL, [a_fact(1)])
        assert not isinstance(found.value, TopicMissing)
        spooled = SpooledBus(bus, tmp_path / "spool.db", bus.check)
        spooled.publish(CONTROL, [a_fact(1)])
    wait_until_empty(spooled)
    spooled.close()
    assert [delivery.message for delivery in bus.read(CONTROL, 0)] == [a_fact(1)]


def wait_until_empty(bus: SpooledBus) -> None:
    deadline = time.monotonic() + 30
    while bus.waiting():
        assert time.monotonic() < deadline, bus.waiting()
        time.sleep(0.05)


def test_whatever_the_producer_says_is_one_of_our_errors(bus: KafkaBus, monkeypatch: pytest.MonkeyPatch) -> None:
    class Fatal:
        def produce(self, *what: object, **how: object) -> None:
            raise KafkaException(KafkaError(KafkaError._FATAL))

        def purge(self) -> None: ...

    bus.publish(CONTROL, [a_fact(1)])
    bus._sender._producer = Fatal()  # type: ignore[assignment]
    with pytest.raises(BusUnreachable, match="Fatal"):
        bus.publish(CONTROL, [a_fact(2)])
    bus.publish(CONTROL, [a_fact(2)])
    assert [delivery.message.data["n"] for delivery in bus.read(CONTROL, 0)] == [1, 2]


def test_where_old_messages_were_deleted_reading_begins_at_the_oldest(broker: Broker, bus: KafkaBus) -> None:
    bus.publish(CONTROL, [a_fact(number) for number in range(10)])
    admin = AdminClient({"bootstrap.servers": broker.servers})
    for removal in admin.delete_records([TopicPartition(broker.name(CONTROL), 0, 7)]).values():
        removal.result(timeout=10)

    assert [delivery.offset for delivery in bus.read(CONTROL, 0)] == [8, 9, 10]
    assert [delivery.offset for delivery in bus.read(CONTROL, 3, limit=2)] == [8, 9]
    assert bus.head(CONTROL) == 10


def test_a_topic_whose_messages_were_all_deleted_goes_on_from_its_head(broker: Broker, bus: KafkaBus) -> None:
    bus.publish(CONTROL, [a_fact(number) for number in range(10)])
    admin = AdminClient({"bootstrap.servers": broker.servers})
    for removal in admin.delete_records([TopicPartition(broker.name(CONTROL), 0, 10)]).values():
        removal.result(timeout=10)

    assert list(bus.read(CONTROL, 0)) == []
    assert bus.head(CONTROL) == 10
    bus.publish(CONTROL, [a_fact(10)])
    assert [delivery.offset for delivery in bus.read(CONTROL, 0)] == [11]


def test_transactions_of_others_leave_gaps_and_what_they_took_back_is_not_read(broker: Broker, bus: KafkaBus) -> None:
    """The marks that end a transaction take up offsets of their own: an end that no message has is no reason to wait."""
    other = Producer({"bootstrap.servers": broker.servers, "transactional.id": f"{broker.prefix}other"})
    other.init_transactions(10)
    for number, end in ((1, other.commit_transaction), (2, other.abort_transaction), (3, other.commit_transaction)):
        other.begin_transaction()
        for record in encode(TOPICS[CONTROL], [a_fact(number)]):
            other.produce(broker.name(CONTROL), record.value, record.key)
        other.flush(10)
        end(10)

    found = bus.read(CONTROL, 0)
    assert [(delivery.offset, delivery.message.data["n"]) for delivery in found] == [(1, 1), (5, 3)]
    assert bus.head(CONTROL) == 6
    for _ in range(3):
        assert list(bus.read(CONTROL, 5)) == []
    assert list(KafkaBus(broker).read(CONTROL, 5)) == []
    bus.publish(CONTROL, [a_fact(4)])
    assert [delivery.message.data["n"] for delivery in bus.read(CONTROL, 5)] == [4]
