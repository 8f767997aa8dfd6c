"""What every bus keeps. Run on the embedded log by tests/spec/events/test_bus.py and on Kafka by tests/services/test_bus_on_kafka.py."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from mlops_lab.events import CONTROL, OBSERVATIONS, EventBus, Message
from mlops_lab.events.port import Delivery

AT = datetime(2013, 4, 1, tzinfo=UTC)


def a_fact(number: int, key: str = "N1") -> Message:
    at = AT + timedelta(minutes=number)
    return Message("FlightDeparted", at, "EWR", {"n": number}, id=f"fact-{number}", partition_key=key, traceparent="", version=2)


def everything(bus: EventBus, topic: str = OBSERVATIONS, limit: int = 1000) -> Iterator[Delivery]:
    for partition in range(bus.partitions(topic)):
        after = 0
        while found := bus.read(topic, after, limit, partition):
            yield from found
            after = found[-1].offset


class BusContract:
    """The tests; a subclass brings the fixture `bus`."""

    def test_a_message_comes_back_as_it_was(self, bus: EventBus) -> None:
        sent = Message(
            "FlightDeparted",
            AT,
            "EWR",
            {"text": "Zürich ✈", "number": 1.5, "none": None, "deep": [{"a": 1}]},
            id="one",
            traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            partition_key="N14228",
            version=3,
        )
        assert bus.publish(OBSERVATIONS, [sent]) == 1
        assert [delivery.message for delivery in everything(bus)] == [sent]

    def test_messages_of_one_key_share_a_partition_and_stay_in_order(self, bus: EventBus) -> None:
        sent = [a_fact(number, key=f"N{number % 7}") for number in range(700)]
        for start in range(0, 700, 90):
            bus.publish(OBSERVATIONS, sent[start : start + 90])
        found = list(everything(bus, limit=37))
        assert sorted(delivery.message.data["n"] for delivery in found) == list(range(700))
        for key in range(7):
            mine = [delivery for delivery in found if delivery.message.key == f"N{key}"]
            assert len({delivery.partition for delivery in mine}) == 1
            assert [delivery.message.data["n"] for delivery in mine] == list(range(key, 700, 7))

    def test_reading_goes_on_behind_any_offset_and_ends_at_the_head(self, bus: EventBus) -> None:
        bus.publish(CONTROL, [a_fact(number) for number in range(50)])
        assert bus.head(CONTROL) == 50
        for after, limit in ((0, 5), (45, 10), (10, 3), (13, 3), (49, 1), (50, 10), (2, 48)):
            found = bus.read(CONTROL, after, limit)
            assert [delivery.offset for delivery in found] == list(range(after + 1, min(50, after + limit) + 1))
        bus.publish(CONTROL, [a_fact(50)])
        assert [delivery.offset for delivery in bus.read(CONTROL, 50)] == [51]

    def test_an_empty_topic_has_no_head_and_nothing_to_read(self, bus: EventBus) -> None:
        assert bus.head(OBSERVATIONS) == 0
        assert list(everything(bus)) == []
        assert bus.publish(OBSERVATIONS, []) == 0

    def test_a_group_remembers_how_far_it_is_and_can_go_back(self, bus: EventBus) -> None:
        bus.publish(CONTROL, [a_fact(number) for number in range(5)])
        assert bus.committed("watcher", CONTROL) == 0
        bus.commit("watcher", CONTROL, 4)
        assert (bus.committed("watcher", CONTROL), bus.committed("trainer", CONTROL)) == (4, 0)
        bus.commit("watcher", CONTROL, 1)
        assert bus.committed("watcher", CONTROL) == 1
        bus.commit("trainer", CONTROL, 2)
        assert (list(bus.groups(CONTROL)), list(bus.groups(OBSERVATIONS))) == (["trainer", "watcher"], [])

    def test_partitions_are_remembered_each_by_itself(self, bus: EventBus) -> None:
        last = bus.partitions(OBSERVATIONS) - 1
        bus.commit("features", OBSERVATIONS, 0, last)
        assert bus.committed("features", OBSERVATIONS, last) == 0

    def test_topics_do_not_mix(self, bus: EventBus) -> None:
        bus.publish(CONTROL, [a_fact(1)])
        assert list(everything(bus, OBSERVATIONS)) == []

    def test_a_log_is_told_from_another(self, bus: EventBus) -> None:
        assert bus.log_id(CONTROL) == bus.log_id(CONTROL)
        assert bus.log_id(CONTROL)

    def test_several_threads_publish_and_nothing_is_lost(self, bus: EventBus) -> None:
        def publish(writer: int) -> None:
            for number in range(0, 100, 10):
                bus.publish(OBSERVATIONS, [a_fact(writer * 100 + number + i, key=f"N{writer}") for i in range(10)])

        threads = [threading.Thread(target=publish, args=(writer,)) for writer in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = [delivery.message.data["n"] for delivery in everything(bus)]
        assert sorted(found) == list(range(400))
        for writer in range(4):
            assert [n for n in found if n // 100 == writer] == list(range(writer * 100, writer * 100 + 100))
