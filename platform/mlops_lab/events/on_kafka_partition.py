"""Reads one partition of a topic on Kafka: a consumer that keeps its place between calls and fetches ahead."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from confluent_kafka import KafkaError, Message, TopicPartition

from mlops_lab.errors import BusReplaced, MessageUnreadable
from mlops_lab.events.broker import Broker
from mlops_lab.events.on_kafka_client import TRANSIENT, Hearsay, make_consumer, meaning
from mlops_lab.events.port import Delivery
from mlops_lab.events.topics import Topic
from mlops_lab.events.wire import decode

_SLICE_S = 0.1
"""A signal is taken up between two waits."""


class PartitionReader:
    """A place in a partition. Positions are Kafka's, from 0: so the offset `after` which is read is the position of the next record.

    Nothing is asked of the broker while records are at hand. Where there are none, it is asked for the end: a message that was acknowledged
    before the call is there for the call.
    """

    def __init__(self, broker: Broker, topic: Topic, partition: int, ends: Callable[[], tuple[int, int]]) -> None:
        """Args:
        broker: Where.
        topic: What.
        partition: Its number.
        ends: Asks the broker for the positions of the first record and behind the last one.
        """
        self._broker = broker
        self._topic = topic
        self._place = TopicPartition(broker.name(topic.name), partition)
        self._ends = ends
        self._lock = threading.Lock()
        self._hearsay = Hearsay(broker)
        self._consumer = make_consumer(broker, self._hearsay)
        self._fetched: deque[Message] = deque()
        self._returned = 0
        """The offset up to which the caller has everything."""
        self._next = -1
        """Position behind all that was fetched, gaps included; -1 where nothing is assigned."""

    def read(self, after: int, limit: int) -> Sequence[Delivery]:
        """See Topics.read."""
        with self._lock:
            try:
                self._go_to(after)
                self._fetch(limit)
            except BaseException:
                self._next = -1  # wherever it stands now: the next call begins anew
                raise
            return self._deliveries(limit)

    def close(self) -> None:
        """Let go of the connections; the reader is of no use afterwards."""
        with self._lock:
            self._consumer.close()

    def _go_to(self, after: int) -> None:
        back = self._next < 0 or after < self._returned
        self._returned = after
        while not back and self._fetched and (self._fetched[0].offset() or 0) < after:
            self._fetched.popleft()
        if back or (not self._fetched and self._next < after):
            self._assign(after)

    def _assign(self, position: int) -> None:
        self._fetched.clear()
        self._consumer.assign([TopicPartition(self._place.topic, self._place.partition, position)])
        self._next = position

    def _fetch(self, limit: int) -> None:
        """Bring records to hand: up to `limit`, fewer where the partition ends or no more have come yet."""
        deadline = time.monotonic() + self._broker.timeout_s
        end: int | None = None
        while (missing := limit - len(self._fetched)) > 0:
            if batch := self._consumer.consume(missing, 0):
                self._take(batch)
                continue
            if self._fetched:
                end = self._consumer.get_watermark_offsets(self._place, cached=True)[1]
            elif end is None:
                end = self._ends()[1]
                if end < self._next:
                    raise BusReplaced.ends(self._broker.servers, self._place.topic, self._place.partition, end, self._next)
            if self._next >= end:
                return
            waited = self._consumer.poll(_SLICE_S)  # consume would wait for all that are missing
            if waited is not None:
                self._take([waited])
            elif self._fetched:
                return
            self._hearsay.require_let_in()
            if time.monotonic() > deadline:
                raise self._hearsay.silence(f"messages of '{self._place.topic}' did not come")

    def _take(self, batch: Sequence[Message]) -> None:
        for message in batch:
            error = message.error()
            if error is None:
                self._fetched.append(message)
                self._next = (message.offset() or 0) + 1
            elif error.code() == KafkaError._PARTITION_EOF:
                self._next = max(self._next, message.offset() or 0)
            elif error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
                self._go_in_range()
                return
            elif error.code() not in TRANSIENT:
                raise meaning(error, self._broker, self._place.topic)

    def _go_in_range(self) -> None:
        """What is asked for is not there any more: go on with the oldest that is."""
        first, end = self._ends()
        if self._next > end:
            raise BusReplaced.ends(self._broker.servers, self._place.topic, self._place.partition, end, self._next)
        self._assign(max(first, self._next))

    def _deliveries(self, limit: int) -> Sequence[Delivery]:
        found: list[Delivery] = []
        partition, largest = self._place.partition, self._topic.max_event_bytes
        while self._fetched and len(found) < limit:
            record = self._fetched[0]
            offset = (record.offset() or 0) + 1
            try:
                found.append(Delivery(offset, decode(record.key(), record.value(), record.headers, largest), partition))
            except ValueError as error:
                if found:
                    break  # told when somebody has come that far
                raw = (record.value() or b"")[:largest]  # or it would not fit among the dead letters
                raise MessageUnreadable.at(
                    self._broker.servers, self._topic.name, offset, str(error), partition=partition, raw=raw
                ) from error
            self._fetched.popleft()
            self._returned = offset
        return found
