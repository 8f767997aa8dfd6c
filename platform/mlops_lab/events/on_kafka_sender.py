"""Sends records to Kafka in order: all of them, or an unbroken beginning of each partition's."""

import threading
import time
from collections.abc import Sequence

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from mlops_lab.events.broker import Broker
from mlops_lab.events.on_kafka_client import Hearsay, make, meaning
from mlops_lab.events.wire import Record

_SLICE_S = 0.1
"""A signal is taken up between two waits."""


class Sender:
    """One producer, made at the first use. Used by one thread at a time; others wait.

    The producer is idempotent and tries for ever, so nothing overtakes what was sent before it. It is we who end the wait: then everything
    that is still on its way is given up together, and the producer with it. (Its own timeout gives up single messages and lets later ones
    of their key pass.)
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._lock = threading.Lock()
        self._producer: Producer | None = None
        self._hearsay = Hearsay(broker)

    def send(self, topic: str, records: Sequence[Record]) -> None:
        """Return when the broker has them all on its replicas.

        Args:
            topic: Its name on the broker; it has to exist.
            records: In the order in which they are to be there.

        Raises:
            BusUnreachable, BusRefused, TopicMissing: They may not all be there; send all of them again.
        """
        with self._lock:
            reports = _Reports()
            try:
                self._send(topic, records, reports)
            except BaseException:  # an interrupt too: what was not acknowledged may not arrive behind what is sent next
                self._give_up()
                raise

    def close(self) -> None:
        """Let go of the connections; the next call makes new ones."""
        with self._lock:
            self._producer = None

    def _send(self, topic: str, records: Sequence[Record], reports: "_Reports") -> None:
        deadline = time.monotonic() + self._broker.timeout_s
        producer = self._open()
        for record in records:
            while True:
                try:
                    producer.produce(topic, record.value, record.key, headers=record.headers, on_delivery=reports)
                    break
                except BufferError:
                    deadline = self._wait(producer, topic, reports, deadline)
                except KafkaException as error:
                    raise meaning(error.args[0], self._broker, topic) from error
        while reports.arrived < len(records):
            deadline = self._wait(producer, topic, reports, deadline)

    def _wait(self, producer: Producer, topic: str, reports: "_Reports", deadline: float) -> float:
        """Serve reports for a moment; returns the new deadline, since a broker that acknowledges is not down."""
        before = reports.arrived
        producer.poll(_SLICE_S)
        if reports.error is not None:
            raise meaning(reports.error, self._broker, topic)
        self._hearsay.require_let_in()
        now = time.monotonic()
        if reports.arrived > before:
            return now + self._broker.timeout_s
        if now > deadline:
            raise self._hearsay.silence("not everything was acknowledged")
        return deadline

    def _open(self) -> Producer:
        if self._producer is None:
            self._hearsay = Hearsay(self._broker)
            config = {
                "error_cb": self._hearsay,
                "enable.idempotence": True,
                "acks": "all",
                "message.timeout.ms": 0,  # for ever, see above
                "partitioner": "murmur2",  # what clients in Java use: a key has one partition whoever sends it
                "compression.type": "zstd",
                "linger.ms": 0,  # what waits behind a request makes batches enough
                "batch.size": 512 * 1024,
                "message.max.bytes": 2 * 1024 * 1024,
            }
            self._producer = make(Producer, self._broker, config)
        return self._producer

    def _give_up(self) -> None:
        if self._producer is not None:
            self._producer.purge()
            self._producer = None


class _Reports:
    """Counts what was acknowledged, and keeps the first failure."""

    def __init__(self) -> None:
        self.arrived = 0
        self.error: KafkaError | None = None

    def __call__(self, error: KafkaError | None, message: Message) -> None:
        if error is None:
            self.arrived += 1
        elif self.error is None:
            self.error = error
