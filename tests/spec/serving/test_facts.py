"""Facts published before a request count in its answer."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic, sleep

import pytest

from facts_builders import LOOK_S, Followed
from mlops_lab.events import OBSERVATIONS, REFERENCES, Delivery, Message
from mlops_lab.events.in_time import BusInTime
from mlops_lab.events.on_sqlite import SqliteBus
from mlops_lab.serving.facts import FactStream
from serving_builders import NOON, a_count, an_item, ask


def test_a_fact_counts_as_soon_as_it_is_published_and_a_quiet_bus_is_not_asked(followed: Followed, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    read = SqliteBus.read

    def counted(self: SqliteBus, topic: str, after: int, limit: int = 1000) -> object:
        asked.append(topic)
        return read(self, topic, after, limit)

    monkeypatch.setattr(SqliteBus, "read", counted)
    for people in range(2, 50):
        followed.publish(people)
        followed.facts.catch_up()
        assert followed.people() == people
    asked.clear()
    for _ in range(200):
        followed.facts.catch_up()

    assert asked.count(OBSERVATIONS) <= 3  # once a second


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("at", "not a moment"),
        ("at", "0001-01-01T00:00:00Z"),
        ("data", "{"),
        ("data", "[]"),
        ("data", b"\xff\xfe"),
        ("subject", b"\xff"),
        ("at", ""),
    ],
)
@pytest.mark.parametrize("topic", [OBSERVATIONS, REFERENCES])
@pytest.mark.parametrize("restarted", [False, True])
def test_a_row_that_is_no_fact_is_left_out_and_those_behind_it_count(
    followed: Followed, caplog: pytest.LogCaptureFixture, column: str, value: object, topic: str, restarted: bool
) -> None:
    bad = replace(a_count(2), id="bad")
    followed.bus.publish(topic, [bad, a_count(4, NOON - timedelta(minutes=56))])
    followed.bus.close()
    db = followed.bus._open()
    db.execute(f"UPDATE message SET {column} = CAST(? AS TEXT) WHERE id = 'bad'", (value,))
    followed.publish(5)

    facts = FactStream(BusInTime(followed.path), followed.online) if restarted else followed.facts
    facts.catch_up()
    before = facts.refused
    facts.catch_up()

    assert followed.people() == 5
    assert facts.trouble is None
    assert facts.refused == before <= 1
    assert before == 1 or value == "0001-01-01T00:00:00Z"  # a moment, if a strange one
    assert caplog.text.count("serving.fact_") - caplog.text.count("serving.facts_read") <= 1


def test_facts_from_the_future_do_not_shorten_what_a_replica_reads_at_its_start(followed: Followed) -> None:
    """A whole chunk of them neither: they are not the newest facts, they are none."""
    future = [a_count(1, datetime.now(UTC) + timedelta(days=900), name=f"future-{i}") for i in range(1_500)]
    followed.bus.publish(OBSERVATIONS, [a_count(7, NOON - timedelta(minutes=1)), *future])

    fresh = Followed(followed.path)
    fresh.look()

    assert fresh.people() == 7


class Slow:
    """What a bus on a loaded machine does: each message takes its time. `given` are the offsets that came in time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, each_s: float) -> None:
        self.each_s = each_s
        self.asked: list[int] = []
        self.given: list[int] = []
        read, read_in_time = SqliteBus.read, BusInTime.read

        def slow(bus: SqliteBus, topic: str, after: int, limit: int = 1000) -> Sequence[Delivery]:
            found = read(bus, topic, after, limit)
            if topic == OBSERVATIONS:
                self.asked.append(limit)
                sleep(self.each_s * len(found))
            return found

        def in_time(bus: BusInTime, topic: str, after: int, limit: int = 1000, partition: int = 0) -> Sequence[Delivery]:
            found = read_in_time(bus, topic, after, limit, partition)
            if topic == OBSERVATIONS:
                self.given += [delivery.offset for delivery in found]
            return found

        monkeypatch.setattr(SqliteBus, "read", slow)
        monkeypatch.setattr(BusInTime, "read", in_time)


def counts(number: int) -> list[Message]:
    return [a_count(i, NOON - timedelta(seconds=number - i), name=f"count-{i}") for i in range(1, number + 1)]


@pytest.mark.parametrize("behind", [False, True])
def test_what_a_loaded_machine_does_not_read_at_once_comes_in_smaller_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behind: bool
) -> None:
    """A thousand facts take four times as long as a read may take, at the start of a replica and when it has fallen behind."""
    followed = Followed(tmp_path / "bus.db")
    followed.facts = FactStream(BusInTime(followed.path, first_s=0.05), followed.online)
    if behind:
        followed.facts.catch_up()
        sleep(0.05)
    followed.bus.publish(OBSERVATIONS, counts(2_500))
    slow = Slow(monkeypatch, 0.0002)

    began = monotonic()
    assert followed.look() < LOOK_S
    assert isinstance(followed.facts.trouble, str)
    assert followed.recovers()

    assert monotonic() - began < 5
    assert followed.people() == 2_500
    assert sorted(slow.given) == list(range(1, 2_501))  # each of them once: nothing that was read is read again
    assert slow.asked[:2] == [1000, 500]

    slow.each_s = 0.0
    followed.bus.publish(OBSERVATIONS, [a_count(i, NOON, name=f"later-{i}") for i in range(3_000)])
    while len(slow.given) < 5_500:
        followed.look()
    assert slow.asked[-1] == 1000


def test_a_bus_that_gives_not_even_little_in_time_is_left_alone_for_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    followed = Followed(tmp_path / "bus.db")
    followed.bus.publish(OBSERVATIONS, counts(1_000))
    followed.facts = FactStream(BusInTime(followed.path, deadline_s=0.02, first_s=0.02), followed.online)
    slow = Slow(monkeypatch, 0.002)
    ends = monotonic() + 6
    while slow.asked.count(50) < 1 and monotonic() < ends:
        followed.look()
    sleep(0.2)  # by now that read has ended

    assert slow.asked == [1000, 500, 250, 125, 62, 50]
    for _ in range(50):
        followed.look()
    assert slow.asked.count(50) == 1


@pytest.mark.parametrize("at_once", [True, False])
def test_one_fact_of_a_wrong_year_is_left_out_and_time_that_leaps_for_all_is_followed(followed: Followed, at_once: bool) -> None:
    def look() -> None:
        if not at_once:
            followed.look()

    wrong = a_count(1_000, NOON + timedelta(days=2_500), name="wrong")
    for fact in [a_count(3, NOON), wrong, a_count(4, NOON + timedelta(hours=1), name="next")]:
        followed.bus.publish(OBSERVATIONS, [fact])
        look()
    followed.look()
    assert followed.facts.refused == 1
    assert followed.facts.watermark_s == int((NOON + timedelta(minutes=50)).timestamp())
    assert followed.online.read(ask(an_item(at=(NOON + timedelta(days=3_000)).isoformat()))).values[2] == 4

    for number in range(3):
        followed.bus.publish(OBSERVATIONS, [a_count(5 + number, NOON + timedelta(days=30, minutes=number), name=f"june-{number}")])
        look()
    followed.look()
    assert followed.facts.refused == (1 if at_once else 2)  # the first of them is alone until the second comes
    assert followed.facts.watermark_s == int((NOON + timedelta(days=30) - timedelta(minutes=8)).timestamp())
