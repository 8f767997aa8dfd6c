"""The event bus on Kafka: topics as the platform's table says them, CloudEvents in the structured mode, offsets by consumer group."""

import threading
from collections.abc import Iterable, Mapping, Sequence

from confluent_kafka import TopicPartition

from mlops_lab.errors import BusUnreachable, TopicDiffers, TopicMissing, UnknownName
from mlops_lab.events.broker import Broker
from mlops_lab.events.message import Message
from mlops_lab.events.on_kafka_asker import Asker
from mlops_lab.events.on_kafka_partition import PartitionReader
from mlops_lab.events.on_kafka_sender import Sender
from mlops_lab.events.on_kafka_topics import groups_of, topic_id
from mlops_lab.events.port import Delivery
from mlops_lab.events.topics import ALL_TOPICS, Topic
from mlops_lab.events.wire import encode

READER = "reader"
"""The group of questions that no group asks."""


class KafkaBus:
    """Offsets are Kafka's plus one, so that 0 stands before the first message; what a group has committed is the number of its next record.

    Safe for several threads. Nothing is opened before the first use. Groups have no members: who reads what is said by the caller.
    """

    def __init__(self, broker: Broker, topics: Mapping[str, Topic] = ALL_TOPICS) -> None:
        self._broker = broker
        self._topics = topics
        self._lock = threading.Lock()
        self._sender = Sender(broker)
        self._readers: dict[tuple[str, int], PartitionReader] = {}
        self._groups: dict[str, Asker] = {}
        self._checked: dict[str, int] = {}

    def publish(self, topic: str, messages: Iterable[Message]) -> int:
        """See EventBus.publish. Raises MessageUnsendable too, where one is too large, has no key or is no JSON; then none was sent."""
        records = encode(self._topic(topic), messages)
        if not records:
            return 0
        self.partitions(topic)
        try:
            self._sender.send(self._broker.name(topic), records)
        except BusUnreachable as error:
            self._doubt(topic, error)
            raise
        return len(records)

    def check(self, topic: str, messages: Sequence[Message]) -> None:
        """Whether a broker would take them, without asking one. Raises MessageUnsendable, UnknownName."""
        encode(self._topic(topic), messages)

    def partitions(self, topic: str) -> int:
        """See Topics.partitions. Asked for once. Raises BusUnreachable, TopicMissing, TopicDiffers."""
        if topic not in self._checked:
            wanted, name = self._topic(topic).partitions, self._broker.name(topic)
            found = self._asking(READER).partitions(name)
            if not found:
                raise TopicMissing.of(self._broker.servers, name)
            if found != wanted:
                raise TopicDiffers.of(self._broker.servers, name, "partitions", found, wanted)
            self._checked[topic] = found
        return self._checked[topic]

    def read(self, topic: str, after: int, limit: int = 1000, partition: int = 0) -> Sequence[Delivery]:
        """See Topics.read. Raises BusReplaced where the partition ends before `after`, TopicMissing and TopicDiffers too."""
        self._require(topic, partition)
        with self._lock:
            reader = self._readers.get((topic, partition))
            if reader is None:
                place = TopicPartition(self._broker.name(topic), partition)
                reader = PartitionReader(self._broker, self._topic(topic), partition, lambda: self._asking(READER).ends(place))
                self._readers[topic, partition] = reader
        try:
            return reader.read(after, limit)
        except BusUnreachable as error:
            with self._lock:
                self._readers.pop((topic, partition), None)  # the next one reads the credentials anew
            self._doubt(topic, error)
            raise

    def head(self, topic: str, partition: int = 0) -> int:
        """See Topics.head: where messages were deleted, that of the last one there was."""
        self._require(topic, partition)
        return self._asking(READER).ends(TopicPartition(self._broker.name(topic), partition))[1]

    def waiting(self) -> dict[str, int]:
        """See EventBus.waiting: what is published is there."""
        return {}

    def log_id(self, topic: str) -> str:
        """See Topics.log_id. One question to the broker."""
        return topic_id(self._broker, self._topic(topic))

    def committed(self, group: str, topic: str, partition: int = 0) -> int:
        """See EventBus.committed. A broker forgets what a group has not committed for a while (offsets.retention.minutes)."""
        self._require(topic, partition)
        return self._asking(group).committed(TopicPartition(self._broker.name(topic), partition))

    def commit(self, group: str, topic: str, offset: int, partition: int = 0) -> None:
        """See EventBus.commit. Returns when the broker has it."""
        self._require(topic, partition)
        self._asking(group).commit(TopicPartition(self._broker.name(topic), partition, offset))

    def groups(self, topic: str) -> Sequence[str]:
        """See EventBus.groups."""
        return groups_of(self._broker, self._topic(topic))

    def close(self) -> None:
        """Let go of all connections; the next call makes new ones."""
        self._sender.close()
        with self._lock:
            for reader in self._readers.values():
                reader.close()
            for group in self._groups.values():
                group.close()
            self._readers.clear()
            self._groups.clear()
            self._checked.clear()

    def _doubt(self, topic: str, error: BusUnreachable) -> None:
        """After a failure the topic is looked at again before its next use. That it is missing is believed only when it is not listed: a
        cluster that is coming back says so of topics that it has, and a publisher may not take that for the last word.

        Raises:
            BusUnreachable: In the place of a TopicMissing that is none.
        """
        self._checked.pop(topic, None)
        if isinstance(error, TopicMissing):
            self.partitions(topic)
            name = self._broker.name(topic)
            raise BusUnreachable.broker(self._broker.servers, f"it is not ready yet for topic '{name}'") from error

    def _topic(self, name: str) -> Topic:
        if name not in self._topics:
            raise UnknownName.of("topic", name, self._topics)
        return self._topics[name]

    def _require(self, topic: str, partition: int) -> None:
        if not 0 <= partition < self.partitions(topic):
            raise UnknownName.of(f"partition of topic '{topic}'", str(partition), map(str, range(self.partitions(topic))))

    def _asking(self, group: str) -> "Asker":
        with self._lock:
            if group not in self._groups:
                self._groups[group] = Asker(self._broker, group)
            return self._groups[group]
