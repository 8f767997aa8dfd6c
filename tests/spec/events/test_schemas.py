"""What an event has to be before anybody works on it: of a known type and version, well-formed, on its topic, keyed as its type says."""

import pickle
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import pytest
from pydantic import Field
from typing_extensions import TypedDict

from mlops_lab.errors import EventRefused, UnknownName
from mlops_lab.events import Message
from mlops_lab.events.schema import FUTURE_TOLERANCE, EventType, EventTypes, closed, field, subject

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@closed
class Docked(TypedDict):
    """A ship has come."""

    ship: Annotated[str, Field(pattern="^[A-Z]{1,8}$", description="Its call sign.")]
    harbour: str
    load_t: float
    hours_late: int | None


DOCKED = EventType(
    name="ShipDocked",
    topic="harbour",
    meaning="A ship has come.",
    data=Docked,
    subject=field("harbour"),
    key=field("ship", "the ship"),
    example={"ship": "ARGO", "harbour": "kiel", "load_t": 12.5, "hours_late": None},
    version=2,
)
SUNK = EventType("ShipSunk", "sea", "It is gone.", Docked, subject("anything"), field("ship"), DOCKED.example)
TYPES = EventTypes((DOCKED, SUNK))


def docked(**changes: Any) -> Message:
    """A ship that docked at noon; changes are those of its data."""
    data = dict(DOCKED.example) | changes
    return Message("ShipDocked", NOON, "kiel", data, id="e1", partition_key="ARGO", version=2)


def refused(message: Message, topic: str = "harbour", now: datetime | None = NOON) -> EventRefused:
    with pytest.raises(EventRefused) as caught:
        TYPES.checked(message, topic, now)
    return caught.value


def test_an_event_in_order_comes_back_as_it_is() -> None:
    message = docked()

    assert TYPES.checked(message, "harbour", NOON) is message


def test_an_event_of_an_earlier_version_is_taken() -> None:
    TYPES.checked(replace(docked(), version=1), "harbour")


@pytest.mark.parametrize(
    ("changes", "reason", "field", "says", "hint"),
    [
        ({"type": "ShipDoked"}, "unknown_type", "type", "no type 'ShipDoked'", "did you mean 'ShipDocked'?"),
        ({"type": "Rain"}, "unknown_type", "type", "no type 'Rain'", "'harbour' takes ShipDocked"),
        ({"type": "ShipSunk"}, "wrong_topic", "type", "belongs on 'sea', not on 'harbour'", "where it belongs"),
        ({"version": 3}, "unknown_version", "dataschema", "version 3 of ShipDocked is not known, the newest is 2", "readers come before"),
        ({"version": 0}, "unknown_version", "dataschema", "version 0", "readers come before"),
        ({"subject": "bremen"}, "wrong_subject", "subject", "subject is 'bremen' and has to be 'kiel'", "`subject`"),
        ({"partition_key": "BOUNTY"}, "wrong_key", "partitionkey", "key is 'BOUNTY' and has to be 'ARGO', the ship", "in order"),
        ({"partition_key": ""}, "wrong_key", "partitionkey", "key is 'kiel' and has to be 'ARGO'", "`partitionkey`"),
        ({"at": NOON + timedelta(hours=1)}, "from_the_future", "time", "2026-01-01T13:00:00Z, and now it is 2026-01-01T12:00:00Z", "clock"),
    ],
)
def test_what_is_wrong_with_the_envelope_is_named(changes: Mapping[str, Any], reason: str, field: str, says: str, hint: str) -> None:
    error = refused(replace(docked(), **changes))

    assert (error.reason, error.field) == (reason, field)
    assert says in error.what
    assert hint in error.next_step
    assert "e1" in error.what


@pytest.mark.parametrize(
    ("changes", "field", "says"),
    [
        ({"load_t": "12"}, "data.load_t", "valid number (found '12')"),
        ({"load_t": float("nan")}, "data.load_t", "finite number"),
        ({"hours_late": 1.5}, "data.hours_late", "valid integer"),
        ({"hours_late": True}, "data.hours_late", "valid integer"),
        ({"ship": "argo"}, "data.ship", "match pattern"),
        ({"ship": None}, "data.ship", "valid string"),
        ({"crew": 7}, "data.crew", "extra inputs"),
        ({"ship": "X" * 10_000}, "data.ship", "XXX...XXX"),
    ],
)
def test_what_is_wrong_with_the_data_is_named(changes: Mapping[str, Any], field: str, says: str) -> None:
    error = refused(docked(**changes))

    assert (error.reason, error.field) == ("malformed_data", field)
    assert says in error.what
    assert "`lab events schemas ShipDocked`" in error.next_step
    assert len(error.what) < 300


def deep(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "changes",
    [
        {"data": {**DOCKED.example, "ship": deep(3000)}},
        {"data": {**DOCKED.example, "x" * 100_000: 1}},
        {"data": {**DOCKED.example, "load_t": ["x" * 100_000] * 100}},
        {"type": "x" * 200_000},
        {"id": "x" * 200_000, "type": "ShipDoked"},
        {"subject": "x" * 200_000},
        {"partition_key": "x" * 200_000},
    ],
)
def test_what_is_large_or_deep_is_refused_in_few_words(changes: Mapping[str, Any]) -> None:
    error = refused(replace(docked(), **changes))

    assert len(str(error)) < 700
    assert len(error.field) <= 100


@pytest.mark.parametrize("data", [deep(200), {"a": deep(200)}, {"a": [{"b": deep(31)}]}, "text", None])
def test_data_that_is_no_object_or_nested_too_deep_is_no_event(data: Any) -> None:
    """A parser reads what is a thousand deep, and a writer stumbles over it: it could not even become a dead letter."""
    with pytest.raises(ValueError, match=r"no JSON object|nested more than 32 deep"):
        Message.from_cloudevent(docked().to_cloudevent() | {"data": data})
    assert Message.from_cloudevent(docked().to_cloudevent() | {"data": {"a": deep(30)}}).data == {"a": deep(30)}


def test_a_missing_field_is_named() -> None:
    message = docked()
    del message.data["load_t"]  # type: ignore[attr-defined]

    assert refused(message).field == "data.load_t"


def test_clocks_may_differ_by_the_tolerance_and_no_more() -> None:
    TYPES.checked(replace(docked(), at=NOON + FUTURE_TOLERANCE), "harbour", NOON)

    assert refused(replace(docked(), at=NOON + FUTURE_TOLERANCE + timedelta(microseconds=1))).reason == "from_the_future"


def test_without_a_clock_no_event_is_of_the_future() -> None:
    TYPES.checked(replace(docked(), at=NOON + timedelta(days=365)), "harbour")


def test_a_refusal_travels_between_processes_whole() -> None:
    error = pickle.loads(pickle.dumps(refused(docked(load_t=None))))

    assert (error.reason, error.field) == ("malformed_data", "data.load_t")


def test_a_type_is_found_by_its_name_with_the_near_miss() -> None:
    assert TYPES.named("ShipSunk") is SUNK
    with pytest.raises(UnknownName, match="did you mean 'ShipDocked'"):
        TYPES.named("ShipDocket")


def test_two_types_of_one_name_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="ShipSunk"):
        EventTypes((SUNK, SUNK))
