"""A message in the CloudEvents envelope: what is written, what is read back, and what is refused with the reason."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from mlops_lab.events import Message

NOON = datetime(2013, 5, 1, 12, tzinfo=UTC)
DEPARTED = Message("FlightDeparted", NOON, "JFK", {"flight_id": "f1", "delay_min": -3}, id="departed-f1")


def test_an_event_says_what_it_is_in_the_words_of_the_specification() -> None:
    full = Message("T", NOON, "s", {"n": 1}, "i", "elsewhere", traceparent="00-a-b-01", partition_key="N123", version=2)
    assert full.to_cloudevent() == {
        "specversion": "1.0",
        "id": "i",
        "source": "elsewhere",
        "type": "T",
        "time": "2013-05-01T12:00:00Z",
        "subject": "s",
        "datacontenttype": "application/json",
        "dataschema": "urn:mlops-lab:event:T:2",
        "traceparent": "00-a-b-01",
        "partitionkey": "N123",
        "data": {"n": 1},
    }
    assert Message.from_cloudevent(full.to_cloudevent()) == full


def test_what_is_not_said_is_not_written() -> None:
    event = DEPARTED.to_cloudevent()
    assert not {"traceparent", "partitionkey"} & event.keys()
    assert Message.from_cloudevent(event) == DEPARTED


def test_messages_stay_in_order_by_their_key_else_by_their_subject() -> None:
    assert DEPARTED.key == "JFK"
    assert Message("T", NOON, "JFK", {}, partition_key="N123").key == "N123"


def test_an_event_of_others_needs_no_schema_and_may_say_more() -> None:
    """What another program sends: no dataschema, extensions of its own, a time with an offset."""
    event = DEPARTED.to_cloudevent() | {"time": "2013-05-01T08:00:00-04:00", "sequence": "7"}
    del event["dataschema"], event["datacontenttype"]
    assert Message.from_cloudevent(event) == DEPARTED
    assert Message.from_cloudevent(event).at.tzinfo is UTC


def test_a_moment_of_another_zone_is_written_in_utc() -> None:
    there = datetime(2013, 5, 1, 8, tzinfo=timezone(timedelta(hours=-4)))
    assert Message("T", there, "s", {}).to_cloudevent()["time"] == "2013-05-01T12:00:00Z"


@pytest.mark.parametrize("missing", ["specversion", "id", "source", "type", "time", "subject", "data"])
def test_an_event_without_what_every_event_has_is_refused(missing: str) -> None:
    event = DEPARTED.to_cloudevent()
    del event[missing]
    with pytest.raises(ValueError, match=missing):
        Message.from_cloudevent(event)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("specversion", "0.3"),
        ("id", 7),
        ("id", ""),
        ("source", None),
        ("time", "yesterday"),
        ("time", "2013-05-01T12:00:00"),
        ("time", "0001-01-01T00:00:00+14:00"),
        ("time", "9999-12-31T23:59:59-14:00"),
        ("data", ["f1"]),
        ("data", "{}"),
        ("traceparent", ""),
        ("partitionkey", 3),
        ("dataschema", "https://example.org/schema.json"),
        ("dataschema", "urn:mlops-lab:event:FlightArrived:1"),
        ("dataschema", "urn:mlops-lab:event:FlightDeparted:0"),
        ("dataschema", "urn:mlops-lab:event:FlightDeparted:"),
        ("dataschema", "urn:mlops-lab:event:FlightDeparted:1.5"),
    ],
)
def test_an_event_with_a_wrong_attribute_is_refused_with_the_reason(name: str, wrong: object) -> None:
    with pytest.raises(ValueError, match=r"time|zone|Invalid|years" if name == "time" else name):
        Message.from_cloudevent(DEPARTED.to_cloudevent() | {name: wrong})
