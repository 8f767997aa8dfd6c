"""What our clients of Kafka share: how one is made, and what librdkafka's errors mean to the reader."""

from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from mlops_lab.errors import BusRefused, BusUnreachable, LabError, MessageUnsendable, SettingsWrong, TopicMissing
from mlops_lab.events.broker import Broker

_RIGHTS = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "topic",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "group",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "the cluster",
}
_UNKNOWN = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC}
_LOGIN = {KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED}
TRANSIENT = {KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError._RESOLVE, KafkaError._ALL_BROKERS_DOWN, KafkaError._WAIT_COORD}
"""Librdkafka tries again by itself; why it has to is told by the way."""
_HANDSHAKE = {KafkaError._SSL, KafkaError.UNSUPPORTED_SASL_MECHANISM, KafkaError.ILLEGAL_SASL_STATE}


Client = TypeVar("Client", Consumer, Producer, AdminClient)


class Hearsay:
    """What a client says about its connections by the way: librdkafka tries again for ever, and tells why only here.

    A refusal is no outage: it is raised at once instead of after a timeout.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._last = ""
        self._refused: BusRefused | None = None

    def __call__(self, error: KafkaError) -> None:
        found = meaning(error, self._broker, "")
        if isinstance(found, BusRefused):
            self._refused = found
        elif error.code() != KafkaError._ALL_BROKERS_DOWN or not self._last:  # which says less than what came before
            self._last = error.str()

    def require_let_in(self) -> None:
        """Raises BusRefused where the broker has said so."""
        if self._refused is not None:
            raise self._refused

    def silence(self, what: str) -> BusUnreachable:
        """The error for an answer that did not come in time."""
        because = f" ({self._last})" if self._last else ""
        return BusUnreachable.broker(self._broker.servers, f"{what} within {self._broker.timeout_s:g} s{because}")


def meaning(error: KafkaError, broker: Broker, topic_or_group: str) -> LabError:
    """Our error for one of librdkafka's."""
    code, why = error.code(), error.str()
    if code in _LOGIN:
        return BusRefused.credentials(broker.servers, broker.user, why)
    if code in _HANDSHAKE or "handshake failed" in why:
        return BusRefused.connection(broker.servers, broker.security, why)
    if code in _RIGHTS:
        return BusRefused.rights(broker.servers, broker.user, f"{_RIGHTS[code]} {topic_or_group}".rstrip())
    if code in _UNKNOWN:
        return TopicMissing.of(broker.servers, topic_or_group)
    if code in (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD):
        return MessageUnsendable.because(topic_or_group, "?", why)
    return BusUnreachable.broker(broker.servers, why)


def make(kind: type[Client], broker: Broker, config: dict[str, Any]) -> Client:
    """A client of librdkafka; it connects by itself, later. Raises SettingsWrong for what it does not take."""
    try:
        return kind(broker.client_config() | config)
    except KafkaException as error:
        raise SettingsWrong(f"Kafka's client does not take the settings: {error.args[0].str()}.", "correct LAB_EVENTS__...") from error


def make_consumer(broker: Broker, hearsay: Hearsay, group: str = "reader") -> Consumer:
    """A consumer that is told what to read: it joins no group, and remembers nothing by itself. Raises SettingsWrong."""
    config = {
        "error_cb": hearsay,
        "group.id": broker.name(group),
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",  # where what is asked for is gone, it is for us to say what happens
        "enable.partition.eof": True,
        "allow.auto.create.topics": False,
        "fetch.wait.max.ms": 100,  # a jump to another offset waits for the fetch under way
        "queued.min.messages": 20_000,
        "queued.max.messages.kbytes": 8 * 1024,
    }
    return make(Consumer, broker, config)
