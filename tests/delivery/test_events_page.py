"""The page about events says what the code does: topics, types, the example, the messages."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from mlops_lab.bootstrap.events import event_types
from mlops_lab.errors import BusRefused, BusReplaced, BusUnreachable, EventRefused, LabError, MessageUnreadable, TopicDiffers, TopicMissing
from mlops_lab.events import CONTROL, OBSERVATIONS, Message
from mlops_lab.events.topics import DAY_S, TOPICS, Topic
from mlops_lab.events.wire import decode, encode
from mlops_lab.features.ahead import Leap
from mlops_lab.flights.online_usecase import FlightsOnline

PAGE = (Path(__file__).parents[2] / "platform" / "docs" / "events.md").read_text(encoding="utf-8")
TYPES = event_types(FlightsOnline())
AT = datetime(2026, 1, 1, tzinfo=UTC)


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its head."""
    lines = PAGE.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("|")][2:]


def kept(topic: Topic) -> str:
    if topic.compacted:
        return "the newest per key"
    return "for ever" if topic.retention_s is None else f"{topic.retention_s // DAY_S} days"


def test_the_topics_of_the_page_are_those_of_the_code() -> None:
    assert rows("Topics") == [[f"`{each.name}`", each.meaning, each.key, str(each.partitions), kept(each)] for each in TOPICS.values()]


def test_the_types_of_the_page_are_those_of_the_code() -> None:
    assert rows("Types") == [[f"`{each.name}`", f"`{each.topic}`", each.key.says, each.meaning] for each in TYPES]


def test_the_example_of_the_page_is_an_event_that_is_taken() -> None:
    [text] = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    message = Message.from_cloudevent(json.loads(text))

    assert message.to_cloudevent() == json.loads(text)
    TYPES.checked(message, OBSERVATIONS)


DEPARTURE = Message(
    "FlightDeparted",
    AT,
    "EWR",
    {"flight_id": "f1", "carrier": "UA", "origin": "EWR", "tail_number": "N1", "delay_min": 5},
    id="departed-1",
    partition_key="N1",
)


def refused(topic: str = OBSERVATIONS, **changes: Any) -> Callable[[], LabError]:
    def told() -> LabError:
        with pytest.raises(LabError) as caught:
            TYPES.checked(replace(DEPARTURE, **changes), topic, AT)
        return caught.value

    return told


def read_under(key: bytes) -> Callable[[], LabError]:
    """What is said of an event that lies under another record key."""
    value = json.dumps(DEPARTURE.to_cloudevent()).encode()

    def told() -> LabError:
        with pytest.raises(ValueError) as caught:
            decode(key, value, lambda: None, 10_000)
        return MessageUnreadable.at("the bus", OBSERVATIONS, 7, str(caught.value))

    return told


def oversized() -> LabError:
    with pytest.raises(LabError) as caught:
        encode(TOPICS[OBSERVATIONS], [replace(DEPARTURE, data={**DEPARTURE.data, "more": "x" * 300_000})])
    return caught.value


def ahead() -> LabError:
    with pytest.raises(LabError) as caught:
        Leap().require(DEPARTURE, AT - timedelta(hours=12), (), lambda each: True)
    return caught.value


BROKER = "127.0.0.1:9092"
CASES: dict[str, Callable[[], LabError]] = {
    "malformed CloudEvent": lambda: MessageUnreadable.at("the bus", OBSERVATIONS, 7, "it is no JSON"),
    "malformed data": refused(data={**DEPARTURE.data, "delay_min": "5"}),
    "unknown type": refused(type="FlightDeperted"),
    "a type on the wrong topic": refused(CONTROL),
    "unknown (newer) version": refused(version=2),
    "wrong key": refused(partition_key="EWR"),
    "wrong subject": refused(subject="JFK"),
    "from the future": refused(at=AT + timedelta(hours=1)),
    "ahead of its partition alone": ahead,
    "wrong record key, on Kafka": read_under(b"X"),
    "oversized": oversized,
    "missing topic, on Kafka": lambda: TopicMissing.of(BROKER, "lab.observations"),
    "wrong partition count, on Kafka": lambda: TopicDiffers.of(BROKER, "lab.observations", "partitions", 3, 6),
    "a topic made anew, on Kafka": lambda: BusReplaced.ends(BROKER, "lab.control", 0, 2, 9),
    "the broker does not answer": lambda: BusUnreachable.broker(BROKER, "timed out"),
    "the broker refuses": lambda: BusRefused.rights(BROKER, "lab", "topic 'lab.observations'"),
    "expired or wrong credentials (SASL)": lambda: BusRefused.credentials(BROKER, "lab", "SASL authentication failed"),
    "another security than the listener's": lambda: BusRefused.connection(BROKER, "SASL_SSL", "no handshake"),
}
"""What really raises those about brokers is tried by tests/services; here it is how they speak."""


@pytest.mark.parametrize("case", CASES)
def test_what_the_page_says_about_bad_input_is_what_is_said(case: str) -> None:
    [(_, happens, says)] = [row for row in rows("Bad input") if row[0].split(":")[0] == case]
    error = CASES[case]()

    assert fnmatchcase(error.what, says.strip("`")), error.what
    if isinstance(error, EventRefused | MessageUnreadable):
        assert f"`{getattr(error, 'reason', 'unreadable')}`" in happens


def test_every_case_of_the_page_is_tried() -> None:
    assert {row[0].split(":")[0] for row in rows("Bad input")} - CASES.keys() == {"its reader fails on it"}
