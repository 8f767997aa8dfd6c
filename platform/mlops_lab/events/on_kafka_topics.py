"""The topics on a Kafka broker: made as the platform's table says, and never used when they differ from it."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its types do not say that these are for others
    AdminClient,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from mlops_lab.errors import LabError, TopicDiffers
from mlops_lab.events.broker import Broker
from mlops_lab.events.on_kafka_client import TRANSIENT, Hearsay, make, meaning
from mlops_lab.events.topics import ALL_TOPICS, Topic

MAX_BATCH_BYTES = 2 * 1024 * 1024
"""Of a topic on the broker: a batch of several events, compressed."""


@dataclass(frozen=True, slots=True)
class TopicOnBroker:
    """A topic as it is on the broker.

    Attributes:
        topic: What the table says.
        name: On the broker.
        partitions: How many there are; 0 where the topic is missing.
        config: The settings that the table speaks about, by their names on the broker.
        made: Whether this call made it.
    """

    topic: Topic
    name: str
    partitions: int
    config: dict[str, str]
    made: bool = False

    @property
    def differs(self) -> tuple[tuple[str, str, str], ...]:
        """What is not as the table says: the setting, what is found, what is wanted."""
        if not self.partitions:
            return ()
        wanted = wanted_config(self.topic)
        settings = [(name, self.config.get(name, "?"), value) for name, value in wanted.items() if self.config.get(name) != value]
        count = [("partitions", str(self.partitions), str(self.topic.partitions))] if self.partitions != self.topic.partitions else []
        return (*count, *settings)


MUST_AGREE = ("partitions", "cleanup.policy", "message.timestamp.type")
"""Another count of partitions gives keys other places; the others delete what has to stay: events of 2013 are older than any retention."""


def wanted_config(topic: Topic) -> dict[str, str]:
    """The settings of a topic on a broker, by their names there."""
    return {
        "cleanup.policy": "compact" if topic.compacted else "delete",
        "retention.ms": "-1" if topic.retention_s is None else str(topic.retention_s * 1000),
        "message.timestamp.type": "LogAppendTime",
        "max.message.bytes": str(MAX_BATCH_BYTES),
    }


def ensure_topics(broker: Broker, topics: Iterable[Topic] = ALL_TOPICS.values()) -> Sequence[TopicOnBroker]:
    """Make the topics that are missing. Again changes nothing; several processes may do it at once.

    What differs in retention or sizes only is left as it is found, for whoever runs the broker may have a reason: see `differs`.

    Returns:
        Each topic as it is on the broker, in the order given.

    Raises:
        TopicDiffers: One is there with other partitions, another clean-up policy or the senders' timestamps. None was changed.
        BusUnreachable, BusRefused: The broker does not answer, or does not let us.
    """
    asked = list(topics)
    admin = _Admin(broker)
    before = admin.describe(asked)
    for found in before:
        _require_agreement(broker, found)
    missing = {found.topic.name for found in before if not found.partitions}
    admin.create([topic for topic in asked if topic.name in missing])
    deadline = time.monotonic() + broker.timeout_s
    after = admin.describe(asked)
    while not all(found.partitions for found in after) and time.monotonic() < deadline:
        time.sleep(0.05)  # each broker learns of a new topic by itself
        after = admin.describe(asked)
    for found in after:
        _require_agreement(broker, found)
    return [TopicOnBroker(each.topic, each.name, each.partitions, each.config, made=each.topic.name in missing) for each in after]


def describe_topics(broker: Broker, topics: Iterable[Topic] = ALL_TOPICS.values()) -> Sequence[TopicOnBroker]:
    """Each topic as it is on the broker, changed in nothing. Raises BusUnreachable, BusRefused."""
    return _Admin(broker).describe(list(topics))


def topic_id(broker: Broker, topic: Topic) -> str:
    """What Kafka calls this very topic: one that is made anew under its name has another. Raises BusUnreachable, TopicMissing."""
    return _Admin(broker).id_of(broker.name(topic.name))


def groups_of(broker: Broker, topic: Topic) -> Sequence[str]:
    """The groups that have committed something of a topic, without the prefix, sorted. Raises BusUnreachable, BusRefused."""
    return _Admin(broker).groups_of(broker.name(topic.name), topic.partitions)


def _require_agreement(broker: Broker, found: TopicOnBroker) -> None:
    for what, there, wanted in found.differs:
        if what in MUST_AGREE:
            raise TopicDiffers.of(broker.servers, found.name, what, there, wanted)


class _Admin:
    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._hearsay = Hearsay(broker)
        self._client = make(AdminClient, broker, {"error_cb": self._hearsay})

    def describe(self, topics: Sequence[Topic]) -> list[TopicOnBroker]:
        names = {topic.name: self._broker.name(topic.name) for topic in topics}
        try:
            known = self._client.list_topics(timeout=self._broker.timeout_s).topics
            there = [name for name in names.values() if name in known]
            asked = [ConfigResource(ResourceType.TOPIC, name) for name in there]
            answers = self._client.describe_configs(asked, request_timeout=self._broker.timeout_s) if asked else {}
            configs = {resource.name: answer.result() for resource, answer in answers.items()}
        except KafkaException as error:
            raise self._translated(error, "") from error
        return [
            TopicOnBroker(
                topic=topic,
                name=(name := names[topic.name]),
                partitions=len(known[name].partitions) if name in known else 0,
                config={key: entry.value for key, entry in configs.get(name, {}).items() if key in wanted_config(topic)},
            )
            for topic in topics
        ]

    def id_of(self, name: str) -> str:
        try:
            answers = self._client.describe_topics(TopicCollection([name]), request_timeout=self._broker.timeout_s)
            return str(answers[name].result().topic_id)
        except KafkaException as error:
            raise self._translated(error, name) from error

    def groups_of(self, name: str, partitions: int) -> list[str]:
        places = [TopicPartition(name, partition) for partition in range(partitions)]
        found = []
        try:
            known = self._client.list_consumer_groups(request_timeout=self._broker.timeout_s).result().valid
            for group in (each.group_id for each in known if each.group_id.startswith(self._broker.prefix)):
                asked = self._client.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group, places)])
                answer = asked[group].result().topic_partitions
                if any(place.offset >= 0 for place in answer):
                    found.append(group.removeprefix(self._broker.prefix))
        except KafkaException as error:
            raise self._translated(error, name) from error
        return sorted(found)

    def create(self, topics: Sequence[Topic]) -> None:
        if not topics:
            return
        new = [
            NewTopic(self._broker.name(topic.name), topic.partitions, self._broker.replication, config=self._config(topic))
            for topic in topics
        ]
        answers = self._client.create_topics(new, request_timeout=self._broker.timeout_s)
        for name, answer in answers.items():
            try:
                answer.result()
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:  # somebody else was first: looked at afterwards
                    raise self._translated(error, name) from error

    def _config(self, topic: Topic) -> dict[str, str]:
        # With three replicas a message survives one broker, and one broker may be away.
        return wanted_config(topic) | {"min.insync.replicas": str(max(1, self._broker.replication - 1))}

    def _translated(self, error: KafkaException, about: str) -> LabError:
        self._client.poll(0)
        self._hearsay.require_let_in()
        told: KafkaError = error.args[0]
        return self._hearsay.silence("no answer") if told.code() in TRANSIENT else meaning(told, self._broker, about)
