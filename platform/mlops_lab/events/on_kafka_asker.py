"""Short questions to Kafka, each with a deadline: which topics there are, where a partition ends, how far a group is."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from mlops_lab.errors import BusUnreachable
from mlops_lab.events.broker import Broker
from mlops_lab.events.on_kafka_client import TRANSIENT, Hearsay, make_consumer, meaning

T = TypeVar("T")

_AGAIN_S = 0.05
_LOOKS = 5
_SETTLING = {
    KafkaError._UNKNOWN_PARTITION,  # librdkafka's word for one without a leader
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
}


class Asker:
    """Asks as one consumer group, without being a member of it. Safe for several threads.

    After a failure the next question makes a new connection: it reads the credentials anew.
    """

    def __init__(self, broker: Broker, group: str) -> None:
        self._broker = broker
        self._group = group
        self._lock = threading.Lock()
        self._client: tuple[Consumer, Hearsay] | None = None

    def partitions(self, name: str) -> int:
        """Of a topic by its name on the broker; 0 where there is none. Raises BusUnreachable."""
        for _ in range(_LOOKS):  # each broker learns of a new topic by itself
            # All topics: brokers that make topics at first sight make the one that is asked for by name.
            known = self._ask(name, lambda consumer: consumer.list_topics(timeout=self._broker.timeout_s).topics)
            if name in known:
                return len(known[name].partitions)
            time.sleep(_AGAIN_S)
        return 0

    def ends(self, place: TopicPartition) -> tuple[int, int]:
        """The positions of the first record of a partition and behind its last one. Raises BusUnreachable, TopicMissing."""
        found = self._ask(place.topic, lambda consumer: consumer.get_watermark_offsets(place, timeout=self._broker.timeout_s, cached=False))
        if found is None:
            raise BusUnreachable.broker(self._broker.servers, f"it does not say where {place.topic} [{place.partition}] ends")
        return found

    def committed(self, place: TopicPartition) -> int:
        """The position up to which the group has finished; 0 where nothing was committed. Raises BusUnreachable, BusRefused."""
        found = self._ask(self._group, lambda consumer: _unfailing(consumer.committed([place], timeout=self._broker.timeout_s)))
        return max(found[0].offset, 0)

    def commit(self, place: TopicPartition) -> None:
        """Remember `place.offset` for the group. Raises BusUnreachable, BusRefused."""
        self._ask(self._group, lambda consumer: _unfailing(consumer.commit(offsets=[place], asynchronous=False) or []))

    def close(self) -> None:
        """Let go of the connection; the next question makes a new one."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client[0].close()

    def _ask(self, about: str, question: Callable[[Consumer], T]) -> T:
        """The answer, or our error. What a cluster says while it puts itself in order is asked again until the deadline."""
        deadline = time.monotonic() + self._broker.timeout_s
        while True:
            with self._lock:
                if self._client is None:
                    hearsay = Hearsay(self._broker)
                    self._client = make_consumer(self._broker, hearsay, self._group), hearsay
                consumer, hearsay = self._client
            try:
                return question(consumer)
            except KafkaException as error:
                consumer.poll(0)  # nothing is assigned: it brings only what is said by the way
                told: KafkaError = error.args[0]
                if told.code() in _SETTLING and time.monotonic() < deadline:
                    time.sleep(_AGAIN_S)
                    continue
                with self._lock:
                    self._client = None
                hearsay.require_let_in()
                if told.code() in TRANSIENT:
                    raise hearsay.silence("no answer") from error
                raise meaning(told, self._broker, about) from error


def _unfailing(places: list[TopicPartition]) -> list[TopicPartition]:
    """The same; an error of one of them is raised."""
    for place in places:
        if place.error is not None:
            raise KafkaException(place.error)
    return places
