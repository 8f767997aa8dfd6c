"""Topics as they lie on a broker: read by a consumer of its own, byte by byte, so that a mistake in the platform's reader hides nothing."""

import time
import uuid
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from mlops_lab.chaos.cannot_prove import CannotProve
from mlops_lab.chaos.streamed import Laid

_ASKS_S = 30.0
_LOOK_S = 0.2


class Topics:
    """Reads on where it left off: `read` gives what came since, up to where each partition ends now.

    Args:
        config: How the broker is spoken to, in librdkafka's words.
        prefix: Of the topics' names.
        topics: Without prefix.
    """

    def __init__(self, config: Mapping[str, Any], prefix: str, topics: Iterable[str]) -> None:
        own = {"group.id": f"{prefix}chaos-{uuid.uuid4().hex}", "enable.auto.commit": False, "enable.partition.eof": True}
        self._consumer = Consumer({**config, **own, "auto.offset.reset": "error"})
        self._prefix = prefix
        self._next: dict[tuple[str, int], int] = {}
        try:
            known = self._consumer.list_topics(timeout=_ASKS_S).topics
        except KafkaException as error:
            raise CannotProve(f"The broker does not say which topics it has: {error}.", "read its log.") from error
        for topic in topics:
            for partition in known[prefix + topic].partitions:
                self._next[topic, partition] = 0
        self._consumer.assign([self._place(topic, partition, 0) for topic, partition in self._next])

    def read(self) -> list[Laid]:
        """What came since the last call, in order per partition. Raises CannotProve when the broker does not give it."""
        ends = {place: self._end(*place) for place in self._next}
        found: list[Laid] = []
        until = time.monotonic() + _ASKS_S
        while any(self._next[place] < end for place, end in ends.items()):
            for record in self._consumer.consume(1000, _LOOK_S):
                error = record.error()
                topic, partition = (record.topic() or "").removeprefix(self._prefix), record.partition() or 0
                if error is None:
                    offset = record.offset() or 0
                    key = (record.key() or b"").decode("utf-8", "replace")
                    found.append(Laid.of(topic, partition, offset + 1, key, record.value() or b""))
                    self._next[topic, partition] = offset + 1
                elif error.code() == KafkaError._PARTITION_EOF:
                    self._next[topic, partition] = max(self._next[topic, partition], record.offset() or 0)
                if error is None or error.code() == KafkaError._PARTITION_EOF:
                    until = time.monotonic() + _ASKS_S
            if time.monotonic() > until:
                raise CannotProve("The broker does not give what lies on its topics.", "read its log.")
        return found

    def _end(self, topic: str, partition: int) -> int:
        until = time.monotonic() + _ASKS_S
        while True:
            try:
                ends = self._consumer.get_watermark_offsets(self._place(topic, partition), timeout=_ASKS_S, cached=False)
                assert ends is not None
                return ends[1]
            except KafkaException:
                if time.monotonic() > until:
                    raise CannotProve(f"The broker does not say where {topic} ends.", "read its log.") from None

    def _place(self, topic: str, partition: int, offset: int = 0) -> TopicPartition:
        return TopicPartition(self._prefix + topic, partition, offset)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._consumer.close()


def put_raw(config: Mapping[str, Any], topic: str, key: str, value: bytes) -> None:
    """Put bytes on a topic that are no event. `topic` is its name on the broker. Raises CannotProve."""
    producer = Producer(dict(config))
    producer.produce(topic, value, key)
    if producer.flush(_ASKS_S):
        raise CannotProve(f"{topic} does not take bytes that are no event.", "read the broker's log.")


def delete_topics(config: Mapping[str, Any], prefix: str) -> None:
    """Delete all topics and groups whose names begin so. Raises CannotProve."""
    try:
        _delete(config, prefix)
    except KafkaException as error:
        raise CannotProve(f"What begins with {prefix} cannot be deleted: {error}.", "delete it by hand, or the broker's data.") from error


def _delete(config: Mapping[str, Any], prefix: str) -> None:
    admin = AdminClient(dict(config))
    topics = [name for name in admin.list_topics(timeout=_ASKS_S).topics if name.startswith(prefix)]
    groups = [each.group_id for each in admin.list_consumer_groups().result(_ASKS_S).valid if each.group_id.startswith(prefix)]
    for removal in [
        *(admin.delete_topics(topics) if topics else {}).values(),
        *(admin.delete_consumer_groups(groups) if groups else {}).values(),
    ]:
        removal.result(_ASKS_S)
