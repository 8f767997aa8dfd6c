"""Dead letters: what could not be worked on is kept with the reason and its bytes, once, until somebody has it tried again."""

import json
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import TypedDict

from mlops_lab.errors import BusUnreachable, EventRefused, MessageUnreadable
from mlops_lab.events import Delivery, Message, dead
from mlops_lab.events.dead import bury, dead_letters, retry
from mlops_lab.events.dead_letter import DeadLetter
from mlops_lab.events.on_sqlite import SqliteBus
from mlops_lab.events.reading import everything
from mlops_lab.events.schema import EventType, EventTypes, closed, subject

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
TOPIC = "observations"


@closed
class Seen(TypedDict):
    count: int


SEEN = EventType("Seen", TOPIC, "Something was counted.", Seen, subject("where"), subject("where"), {"count": 1})
TYPES = EventTypes((SEEN, *dead.TYPES))


@pytest.fixture
def bus(tmp_path: Path) -> SqliteBus:
    return SqliteBus(tmp_path / "bus.db")


def seen(count: Any, identifier: str = "s1") -> Message:
    return Message("Seen", NOON, "gate", {"count": count}, id=identifier)


def published(bus: SqliteBus, message: Message) -> Delivery:
    bus.publish(TOPIC, [message])
    return bus.read(TOPIC, bus.head(TOPIC) - 1)[0]


def refusal(message: Message) -> EventRefused:
    with pytest.raises(EventRefused) as caught:
        TYPES.checked(message, TOPIC)
    return caught.value


def buried(bus: SqliteBus, message: Message, because: Exception | None = None) -> DeadLetter:
    return bury(bus, TOPIC, published(bus, message), because or refusal(message), tries=3, first_at=NOON, at=NOON + timedelta(seconds=2))


def test_a_dead_letter_says_where_it_was_why_how_often_and_when(bus: SqliteBus) -> None:
    buried(bus, seen("five"))

    [(letter, retried_at)] = dead_letters(bus, TOPIC)
    assert (letter.id, letter.topic, letter.partition, letter.offset) == ("observations/0/1", TOPIC, 0, 1)
    assert (letter.reason, letter.field, letter.tries) == ("malformed_data", "data.count", 3)
    assert (letter.first_at, letter.last_at) == (NOON, NOON + timedelta(seconds=2))
    assert "found 'five'" in letter.why
    assert "repair its sender" in letter.next_step
    assert letter.event() == seen("five")
    assert retried_at is None


def test_an_event_on_which_its_handler_failed_says_what_was_raised(bus: SqliteBus) -> None:
    letter = buried(bus, seen(1), ZeroDivisionError("division by zero"))

    assert (letter.reason, letter.why) == ("not_applied", "ZeroDivisionError: division by zero")


def test_half_a_character_is_buried_too(bus: SqliteBus) -> None:
    """JSON may write it, and Python reads it; UTF-8 has no bytes for it."""
    letter = buried(bus, seen("\ud83d"))
    assert dead_letters(bus, TOPIC)[0].letter == letter
    assert letter.event() == seen("\ud83d")


def test_burying_again_has_the_effect_of_once(bus: SqliteBus) -> None:
    message = seen("five")
    delivery = published(bus, message)
    for minute in range(3):
        bury(bus, TOPIC, delivery, refusal(message), tries=3, first_at=NOON, at=NOON + timedelta(minutes=minute))

    assert len(dead_letters(bus, TOPIC)) == 1
    assert bus.head("observations.dead") == 1


def test_a_letter_that_a_broker_took_twice_is_one(bus: SqliteBus) -> None:
    letter = buried(bus, seen("five"))
    bus.publish("observations.dead", [replace(letter.to_message(), id="a broker takes an id twice")])

    assert [lying.letter for lying in dead_letters(bus, TOPIC)] == [letter]


def test_a_topic_that_was_made_anew_hides_no_letter_of_the_former_one(bus: SqliteBus) -> None:
    letter = buried(bus, seen("five"))
    other = replace(letter, raw=b"other bytes at the same offset")
    bus.publish("observations.dead", [replace(other.to_message(), id="of the new one")])

    assert [lying.letter for lying in dead_letters(bus, TOPIC)] == [letter, other]


def test_what_is_no_event_at_all_is_kept_byte_by_byte(bus: SqliteBus, tmp_path: Path) -> None:
    bus.publish(TOPIC, [seen(1, "good"), seen(2, "spoilt"), seen(3, "good too")])
    bus.close()
    with sqlite3.connect(tmp_path / "bus.db") as db:
        db.execute("UPDATE message SET data = ? WHERE id = 'spoilt'", (b'{"count": \xff\x00',))
    found = list(everything(bus, TOPIC))

    assert [type(each) for each in found] == [Delivery, MessageUnreadable, Delivery]
    assert isinstance(found[1], MessageUnreadable)
    bury(bus, TOPIC, found[1], found[1], tries=1, first_at=NOON, at=NOON)
    [(letter, _)] = dead_letters(bus, TOPIC)
    assert (letter.reason, letter.offset) == ("unreadable", 2)
    assert letter.raw.endswith(b'\n\n{"count": \xff\x00')
    assert b"ce-type: Seen" in letter.raw
    with pytest.raises(MessageUnreadable, match="is no CloudEvent"):
        letter.event()


@pytest.mark.parametrize("raw", [b"", b"plain", "Zürich".encode(), b"\xff\xfe\x00", b'"' * 500, b"\x00" * 500, b"{" * 10])
def test_any_bytes_travel_as_a_valid_event_that_is_hardly_larger(raw: bytes) -> None:
    letter = DeadLetter(TOPIC, 0, 1, "unreadable", "why", "next", "", 1, NOON, NOON, raw)

    message = TYPES.checked(letter.to_message(), "observations.dead")

    assert DeadLetter.from_message(message) == letter
    assert len(json.dumps(message.data["raw"])) <= len(raw) * 4 / 3 + 6


def test_a_dead_letter_belongs_on_topics_of_dead_letters_only() -> None:
    letter = DeadLetter(TOPIC, 0, 1, "unreadable", "why", "next", "", 1, NOON, NOON, b"")

    assert refusal(letter.to_message()).reason == "wrong_topic"


def test_a_bus_that_is_down_buries_nothing_and_says_so(bus: SqliteBus, tmp_path: Path) -> None:
    delivery = published(bus, seen("five"))
    bus.close()
    gone = SqliteBus(tmp_path / "bus.db", only_read=True)

    with pytest.raises(BusUnreachable):
        bury(gone, TOPIC, delivery, ValueError("x"), tries=1, first_at=NOON, at=NOON)


# --- tried again ------------------------------------------------------------------------------------------------------------------


def test_an_event_that_is_understood_by_now_is_published_again_and_that_is_recorded(bus: SqliteBus) -> None:
    letter = buried(bus, replace(seen(5), version=2))
    later = EventTypes((replace(SEEN, version=2), *dead.TYPES))

    again = retry(bus, letter, later, by="ada", at=NOON + timedelta(hours=1))

    [*_, delivered] = bus.read(TOPIC, 0)
    assert delivered.message == again
    assert again == replace(seen(5), version=2, id="retry-observations/0/1")
    [(_, retried_at)] = dead_letters(bus, TOPIC)
    assert retried_at == NOON + timedelta(hours=1)


def test_an_event_that_would_be_refused_again_is_not_published(bus: SqliteBus) -> None:
    letter = buried(bus, seen("five"))

    with pytest.raises(EventRefused):
        retry(bus, letter, TYPES, by="ada", at=NOON)
    assert bus.head(TOPIC) == 1
    assert dead_letters(bus, TOPIC)[0].retried_at is None


def test_a_repaired_event_takes_the_place_of_the_broken_one(bus: SqliteBus) -> None:
    letter = buried(bus, seen("five"))

    retry(bus, letter, TYPES, by="ada", at=NOON, event=seen(5, "whatever"))

    assert bus.read(TOPIC, 1)[0].message == seen(5, "retry-observations/0/1")


def test_a_death_between_publishing_and_recording_publishes_once(bus: SqliteBus) -> None:
    letter = buried(bus, replace(seen(5), version=1), ValueError("not yet"))

    class Dies(SqliteBus):
        def publish(self, topic: str, messages: Any) -> int:
            if topic.endswith(".dead"):
                raise KeyboardInterrupt
            return super().publish(topic, messages)

    with pytest.raises(KeyboardInterrupt):
        retry(Dies(bus._path), letter, TYPES, by="ada", at=NOON)
    retry(bus, letter, TYPES, by="ada", at=NOON)

    assert bus.head(TOPIC) == 2


def test_the_records_of_dead_letters_keep_their_own_schema(bus: SqliteBus) -> None:
    retry(bus, buried(bus, seen(1), ValueError("not yet")), TYPES, by="ada", at=NOON)

    for delivery in bus.read("observations.dead", 0):
        TYPES.checked(delivery.message, "observations.dead", NOON + timedelta(minutes=1))
