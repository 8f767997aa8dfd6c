"""`lab events` on a real Kafka: what it says of topics there, of events over several partitions, of strangers' records."""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

import cli_builders
from cli_builders import Told
from mlops_lab.bootstrap import Lab
from mlops_lab.bootstrap.broker import broker_of
from mlops_lab.bootstrap.founding import found
from mlops_lab.cli.main import run
from mlops_lab.errors import BusUnreachable, LabError, MessageUnreadable
from mlops_lab.events import OBSERVATIONS, Message
from mlops_lab.events.dead import bury, dead_letters
from mlops_lab.events.on_kafka_topics import describe_topics, ensure_topics
from mlops_lab.events.reading import everything
from mlops_lab.events.wire import CONTENT_TYPE
from mlops_lab.settings import EventSettings, FeatureSettings, Settings

AT = datetime(2013, 7, 1, 12, tzinfo=UTC)


def departure(number: int, **changes: object) -> Message:
    tail = f"N{number % 5}"
    data = {"flight_id": f"f{number}", "carrier": "UA", "origin": "EWR", "tail_number": tail, "delay_min": number}
    usual = Message("FlightDeparted", AT + timedelta(minutes=number), "EWR", data, id=f"departed-{number}", partition_key=tail)
    return replace(usual, **changes)  # type: ignore[arg-type]


@pytest.fixture
def lab(events_on_kafka: EventSettings, tmp_path: Path) -> Iterator[Lab]:
    """A home on the broker, which is the one that every command opens."""
    before = dict(os.environ)
    os.environ |= {
        "LAB_HOME": str(tmp_path / "home"),
        "LAB_EVENTS__BUS": "kafka",
        "LAB_EVENTS__KAFKA": events_on_kafka.kafka,
        "LAB_EVENTS__PREFIX": events_on_kafka.prefix,
        "LAB_FEATURES__STORE": "sqlite",
    }
    made = Lab(Settings(home=tmp_path / "home", events=events_on_kafka, features=FeatureSettings(store="sqlite")))
    yield made
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def on_broker(lab: Lab) -> Lab:
    ensure_topics(broker_of(lab.settings.events))
    found(lab)
    return lab


@pytest.fixture
def told(lab: Lab, capsys: pytest.CaptureFixture[str]) -> Told:
    return partial(cli_builders.told, capsys, "events")


def name_of(lab: Lab, topic: str) -> str:
    return broker_of(lab.settings.events).name(topic)


def test_missing_topics_are_named_and_made_when_it_is_asked_for(lab: Lab, told: Told) -> None:
    assert "Missing on the broker: observations, references" in told("topics")
    assert not any(each.partitions for each in describe_topics(broker_of(lab.settings.events)))
    assert "Made on Kafka" in told("topics", "--create")
    assert "nothing was made" in told("topics", "--create")
    assert "observations aircraft, else flight; airport for 6 14 days 0 0 features 0" in told("topics")
    assert not lab.home.exists()


def test_a_topic_with_another_number_of_partitions_is_named_and_not_made_over(lab: Lab, told: Told) -> None:
    broker = broker_of(lab.settings.events)
    admin = AdminClient({"bootstrap.servers": broker.servers})
    admin.create_topics([NewTopic(broker.name(OBSERVATIONS), 2, 1)])[broker.name(OBSERVATIONS)].result(timeout=10)
    while not any(each.partitions for each in describe_topics(broker)):  # the broker is told of a topic a moment after it was made
        time.sleep(0.05)

    assert "'observations' has partitions 2 on the broker, and 6 in the table." in told("topics")
    assert "has partitions 2, and 6 is asked for" in told("topics", "--create", code=50)
    assert "has partitions 2, and 6 is asked for" in told("tail", OBSERVATIONS, code=50)


def test_events_of_all_partitions_are_shown_side_by_side(on_broker: Lab, told: Told, capsys: pytest.CaptureFixture[str]) -> None:
    on_broker.bus.publish(OBSERVATIONS, [departure(number) for number in range(200)])

    assert run(["events", "tail", OBSERVATIONS, "--json", "--limit", "7"]) == 0
    shown = [json.loads(line)["data"]["flight_id"] for line in capsys.readouterr().out.splitlines()]
    assert shown == [f"f{number}" for number in range(193, 200)]
    assert run(["events", "tail", OBSERVATIONS, "--json", "--limit", "3", "--key", "N2"]) == 0
    assert [json.loads(line)["partitionkey"] for line in capsys.readouterr().out.splitlines()] == ["N2"] * 3


def test_a_reader_is_set_back_to_a_time_in_every_partition(on_broker: Lab, told: Told) -> None:
    bus = on_broker.bus
    bus.publish(OBSERVATIONS, [departure(number) for number in range(200)])
    for number in range(6):
        bus.commit("features", OBSERVATIONS, bus.head(OBSERVATIONS, number), number)

    words = ["replay", OBSERVATIONS, "--group", "features", "--to", "2013-07-01 13:40Z"]
    assert "takes 100 events of 'observations' again" in told(*words)
    assert "features 0" in told("topics")
    assert "it is: 100 events" in told(*words, "--yes")
    assert "features 100" in told("topics")
    assert "did you mean 'features'?" in told("replay", OBSERVATIONS, "--group", "feature", "--to", "start", code=2)


def strange(lab: Lab, key: bytes | None, value: bytes) -> tuple[int, MessageUnreadable]:
    """A record of a stranger; where it came to lie, and what is said of it."""
    producer = Producer({"bootstrap.servers": lab.settings.events.kafka})
    producer.produce(name_of(lab, OBSERVATIONS), value, key, headers=[("content-type", CONTENT_TYPE)])
    producer.flush(10)
    for number in range(6):
        for each in everything(lab.bus, OBSERVATIONS, number):
            if isinstance(each, MessageUnreadable):
                return number, each
    raise AssertionError("it can be read")


@pytest.mark.parametrize(("key", "says"), [(b"N9", "its record key is 'N9'"), (None, "its record key is missing")])
def test_an_event_under_another_record_key_is_a_dead_letter_and_lies_right_after_a_retry(
    key: bytes | None, says: str, on_broker: Lab, told: Told
) -> None:
    """Its partition key is right, but the broker placed it by another: others of its aircraft may have overtaken it."""
    number, error = strange(on_broker, key, json.dumps(departure(1).to_cloudevent()).encode())
    bury(on_broker.bus, OBSERVATIONS, error, error, tries=1, first_at=AT, at=AT)

    [(letter, _)] = dead_letters(on_broker.bus, OBSERVATIONS)
    assert letter.partition == number
    assert says in told("dead", OBSERVATIONS)
    assert "is on 'observations' again" in told("dead", "--retry", letter.id)
    found = [each for number in range(6) for each in everything(on_broker.bus, OBSERVATIONS, number) if not isinstance(each, LabError)]
    assert [each.message for each in found] == [departure(1, id=f"retry-{letter.id}")]


def test_the_bytes_of_what_is_no_event_are_kept(on_broker: Lab, told: Told) -> None:
    number, error = strange(on_broker, b"N1", b"\x00\xff no json")
    bury(on_broker.bus, OBSERVATIONS, error, error, tries=1, first_at=AT, at=AT)

    assert dead_letters(on_broker.bus, OBSERVATIONS)[0].letter.raw == b"\x00\xff no json"
    assert "it is no JSON" in told("dead", "--show", f"observations/{number}/1")
    assert "UNREADABLE" in told("tail", OBSERVATIONS)


def test_the_largest_event_fits_among_the_dead_letters_whatever_it_holds(on_broker: Lab) -> None:
    _, error = strange(on_broker, b"N1", b"\x00\xff" * 131_072 + b"more than the topic allows")
    bury(on_broker.bus, OBSERVATIONS, error, error, tries=1, first_at=AT, at=AT)

    [(letter, _)] = dead_letters(on_broker.bus, OBSERVATIONS)
    assert letter.raw == b"\x00\xff" * 131_072


def test_a_letter_is_one_however_often_it_was_buried(on_broker: Lab, told: Told) -> None:
    on_broker.bus.publish(OBSERVATIONS, [departure(1)])
    delivery = next(each for number in range(6) for each in on_broker.bus.read(OBSERVATIONS, 0, partition=number))
    for _ in range(3):
        bury(on_broker.bus, OBSERVATIONS, delivery, ValueError("x"), tries=3, first_at=AT, at=AT)

    assert len(dead_letters(on_broker.bus, OBSERVATIONS)) == 1
    identifier = f"observations/{delivery.partition}/1"
    told("dead", "--retry", identifier)
    assert "nothing was done" in told("dead", "--retry", identifier)


def test_a_broker_that_does_not_answer_is_said(lab: Lab, told: Told) -> None:
    os.environ |= {"LAB_EVENTS__KAFKA": "127.0.0.1:1", "LAB_EVENTS__TIMEOUT_S": "1"}

    for words in (["topics"], ["topics", "--create"], ["tail", OBSERVATIONS], ["dead"]):
        assert "Kafka at 127.0.0.1:1 does not answer" in told(*words, code=50)


def test_what_waits_for_a_broker_that_is_down_is_told(on_broker: Lab, told: Told) -> None:
    os.environ |= {"LAB_EVENTS__KAFKA": "127.0.0.1:1", "LAB_EVENTS__TIMEOUT_S": "0.5"}
    away = Lab(on_broker.settings.model_copy(update={"events": EventSettings(kafka="127.0.0.1:1", bus="kafka", timeout_s=0.5)}))
    away.bus.publish(OBSERVATIONS, [departure(1), departure(2)])
    away.bus.close()

    said = told("topics", code=BusUnreachable.exit_code)

    assert "Waiting in this home for the broker to take them: 2 of observations." in said
    assert "Kafka at 127.0.0.1:1 does not answer" in said
