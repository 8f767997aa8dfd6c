"""A broker that wants a login: the right one works, every wrong one is named at once with what to do, and none is taken for an outage."""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bus_contract import a_fact
from mlops_lab.bootstrap.broker import broker_of
from mlops_lab.errors import BusRefused, SettingsWrong
from mlops_lab.events import CONTROL
from mlops_lab.events.broker import Broker
from mlops_lab.events.on_kafka import KafkaBus
from mlops_lab.events.on_kafka_topics import describe_topics, ensure_topics
from mlops_lab.events.spool import SpooledBus
from mlops_lab.settings import EventSettings


@pytest.fixture
def broker(kafka_with_login: tuple[str, Path]) -> Broker:
    servers, folder = kafka_with_login
    return broker_of(
        EventSettings(
            bus="kafka",
            kafka=servers,
            prefix=f"test-{uuid.uuid4().hex[:12]}.",
            security="SASL_PLAINTEXT",
            mechanism="PLAIN",
            user="lab",
            password_file=folder / "lab.password",
            timeout_s=5,
        )
    )


@pytest.fixture
def closing() -> Iterator[Callable[[KafkaBus], KafkaBus]]:
    opened: list[KafkaBus] = []

    def keep(bus: KafkaBus) -> KafkaBus:
        opened.append(bus)
        return bus

    yield keep
    for bus in opened:
        bus.close()


def test_with_the_right_login_the_bus_works(broker: Broker, closing: Callable[[KafkaBus], KafkaBus]) -> None:
    ensure_topics(broker)
    bus = closing(KafkaBus(broker))
    bus.publish(CONTROL, [a_fact(1)])
    assert [delivery.message for delivery in bus.read(CONTROL, 0)] == [a_fact(1)]
    bus.commit("watcher", CONTROL, 1)
    assert bus.committed("watcher", CONTROL) == 1


def test_a_wrong_or_expired_password_is_said_to_be_that(broker: Broker, closing: Callable[[KafkaBus], KafkaBus], tmp_path: Path) -> None:
    ensure_topics(broker)
    file = tmp_path / "password"
    file.write_text("it was right once\n", encoding="utf-8")
    bus = closing(KafkaBus(replace(broker, password_file=file)))
    for use in (lambda: bus.read(CONTROL, 0), lambda: bus.publish(CONTROL, [a_fact(1)]), lambda: bus.committed("watcher", CONTROL)):
        with pytest.raises(BusRefused, match=r"refuses the credentials of user 'lab'.*(?s:.)*expired"):
            use()
    assert broker.password_file is not None
    file.write_text(broker.password_file.read_text(encoding="utf-8"), encoding="utf-8")
    assert bus.publish(CONTROL, [a_fact(1)]) == 1  # renewed: read again without a restart


def test_what_is_published_with_an_expired_password_waits(broker: Broker, closing: Callable[[KafkaBus], KafkaBus], tmp_path: Path) -> None:
    ensure_topics(broker)
    file = tmp_path / "password"
    file.write_text("it was right once\n", encoding="utf-8")
    kafka = closing(KafkaBus(replace(broker, password_file=file)))
    spooled = SpooledBus(kafka, tmp_path / "spool.db", kafka.check)
    spooled.publish(CONTROL, [a_fact(1), a_fact(2)])
    assert spooled.waiting() == {CONTROL: 2}
    assert "refuses the credentials" in str(spooled.trouble)
    assert broker.password_file is not None
    file.write_text(broker.password_file.read_text(encoding="utf-8"), encoding="utf-8")
    spooled.close()
    spooled.drain()
    assert [delivery.message.id for delivery in closing(KafkaBus(broker)).read(CONTROL, 0)] == ["fact-1", "fact-2"]


def test_a_user_without_rights_is_told_so(broker: Broker, kafka_with_login: tuple[str, Path]) -> None:
    guest = replace(broker, user="guest", password_file=kafka_with_login[1] / "guest.password")
    with pytest.raises(BusRefused, match="does not allow 'guest'"):
        ensure_topics(guest)


def test_without_a_login_one_is_not_let_in(broker: Broker) -> None:
    with pytest.raises(BusRefused):
        describe_topics(replace(broker, security="SASL_PLAINTEXT", mechanism="SCRAM-SHA-512"))


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"user": ""}, "LAB_EVENTS__USER"),
        ({"password_file": None}, "LAB_EVENTS__PASSWORD_FILE"),
        ({"password_file": Path("/nowhere/password")}, "/nowhere/password cannot be read"),
        ({"servers": "localhost"}, "'localhost' is no address"),
        ({"security": "SASL_SSL", "ca_file": Path("/nowhere/ca.pem")}, "there is no file /nowhere/ca.pem"),
    ],
)
def test_settings_that_cannot_work_are_named_before_anything_is_tried(broker: Broker, how: dict[str, object], says: str) -> None:
    with pytest.raises(SettingsWrong, match=says):
        describe_topics(replace(broker, **how))  # type: ignore[arg-type]


def test_a_broker_without_tls_is_told_from_one_that_is_away(broker: Broker) -> None:
    with pytest.raises(BusRefused, match="cannot be spoken to by SASL_SSL"):
        describe_topics(replace(broker, security="SASL_SSL"))
