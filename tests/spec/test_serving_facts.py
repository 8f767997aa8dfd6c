"""Facts published before a request count in its answer; a bus that is down, hangs, is replaced or damaged costs answers nothing but age."""

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic, sleep

import pytest

from mlops_lab.errors import BusReplaced, BusUnreachable
from mlops_lab.events import OBSERVATIONS, REFERENCES, Delivery, Message
from mlops_lab.events.in_time import BusInTime
from mlops_lab.events.on_sqlite import SqliteBus
from mlops_lab.serving.facts import FactStream
from serving_builders import NOON, Counted, a_count, an_item, ask

LOOK_S = 0.3
"""A look may take 50 ms; the rest is for a machine that has other things to do."""

HOLD_INDEX = """
import fcntl, sys
file = open(sys.argv[1] + "-shm", "r+b")
fcntl.lockf(file, fcntl.LOCK_EX, 8, 120)  # SQLite's eight locks on a write-ahead log
print("held", flush=True)
sys.stdin.read()
"""
HOLD_FILE = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("PRAGMA locking_mode=EXCLUSIVE")
db.execute("BEGIN EXCLUSIVE")
db.execute("CREATE TABLE IF NOT EXISTS mine (x)")
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def held(program: str, path: Path) -> Iterator[None]:
    """Another process holds a lock on a bus."""
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            yield
        finally:
            holder.kill()


class Followed:
    """A bus, and the features of a replica that follows it."""

    def __init__(self, path: Path, *, made: bool = True) -> None:
        self.path = path
        self.bus = SqliteBus(path)
        if made:
            self.bus.head(OBSERVATIONS)
        self.online = Counted()
        self.facts = FactStream(BusInTime(path), self.online)

    def look(self) -> float:
        """Seconds that one look took."""
        began = monotonic()
        self.facts.catch_up()
        return monotonic() - began

    def people(self) -> object:
        """The newest count at the gate."""
        return self.online.read(ask(an_item())).values[2]

    def publish(self, people: int) -> None:
        publisher = SqliteBus(self.path)
        publisher.publish(OBSERVATIONS, [a_count(people, NOON - timedelta(minutes=60 - people))])
        publisher.close()

    def recovers(self, within_s: float = 5.0) -> bool:
        deadline = monotonic() + within_s
        while monotonic() < deadline:
            self.look()
            if self.facts.trouble is None:
                return True
            sleep(0.05)
        return False


@pytest.fixture
def followed(tmp_path: Path) -> Followed:
    made = Followed(tmp_path / "bus.db")
    made.publish(1)
    made.facts.catch_up()
    assert made.people() == 1
    return made


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


@pytest.mark.parametrize("program", [HOLD_INDEX, HOLD_FILE])
def test_a_bus_that_somebody_holds_does_not_hold_the_answers(followed: Followed, program: str) -> None:
    """SQLite tries for ten seconds to become a reader while all places are taken, whatever the timeout says."""
    if program == HOLD_FILE:
        # Nobody has this one open: who has cannot be locked out that way.
        followed = Followed(followed.path.with_name("other.db"), made=False)
        followed.publish(1)
    with held(program, followed.path):
        sleep(1.01)  # by now it is asked in any case
        slowest = max(followed.look() for _ in range(50))
        assert followed.facts.trouble
        assert slowest < 0.5 + LOOK_S
        if program == HOLD_INDEX:
            assert slowest < LOOK_S
        assert followed.people() == (1 if program == HOLD_INDEX else None)

    assert followed.recovers()
    followed.publish(2)
    followed.look()
    assert followed.people() == 2


def _remove(path: Path) -> None:
    for each in path.parent.glob("bus.db*"):
        each.unlink()


def _overwrite(path: Path) -> None:
    for each in path.parent.glob("bus.db*"):
        each.write_bytes(b"\xa5" * 65536)


@pytest.mark.parametrize("harm", [_remove, _overwrite])
def test_a_bus_that_is_gone_or_damaged_costs_nothing_but_age_and_another_one_in_its_place_is_followed(
    followed: Followed, harm: Callable[[Path], None]
) -> None:
    harm(followed.path)
    sleep(1.01)
    assert followed.look() < LOOK_S
    assert followed.facts.trouble
    assert followed.people() == 1

    _remove(followed.path)
    followed.publish(7)  # makes a new one, whose offsets begin anew
    followed.publish(8)

    assert followed.recovers()
    assert followed.people() == 8
    followed.publish(9)
    followed.look()
    assert followed.people() == 9


def test_letting_go_of_a_former_file_does_not_tidy_up_after_the_present_one(followed: Followed) -> None:
    """The last one that closes a bus deletes its write-ahead log, by its name: then it would be the one of another bus."""
    for each in list(followed.path.parent.glob("bus.db*")):
        each.rename(each.with_name(f"former-{each.name}"))
    present = SqliteBus(followed.path)
    present.publish(OBSERVATIONS, [a_count(7, NOON - timedelta(minutes=1))])
    sleep(1.01)

    followed.look()
    assert followed.recovers()

    assert followed.path.with_name("bus.db-wal").is_file()
    present.publish(OBSERVATIONS, [a_count(8)])
    followed.look()
    assert followed.people() == 8


def test_a_bus_that_is_not_there_yet_is_not_made_and_followed_once_it_is(tmp_path: Path) -> None:
    followed = Followed(tmp_path / "bus.db", made=False)
    assert followed.look() < LOOK_S
    assert followed.facts.trouble
    assert not followed.path.exists()

    followed.publish(3)

    assert followed.recovers()
    assert followed.people() == 3


def test_a_hanging_read_is_not_joined_by_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    followed = Followed(tmp_path / "bus.db")
    calls: list[float] = []

    def hang(*_: object) -> int:
        calls.append(monotonic())
        sleep(0.6)
        return 0

    monkeypatch.setattr(SqliteBus, "head", hang)
    bus = BusInTime(followed.path, deadline_s=0.02, first_s=0.02)
    for _ in range(20):
        with pytest.raises(BusUnreachable):
            bus.head(OBSERVATIONS)
    assert len(calls) == 1
    monkeypatch.setattr(SqliteBus, "head", lambda *_: 5)
    sleep(0.7)
    assert bus.head(OBSERVATIONS) == 5


def test_a_replaced_bus_is_told_once(followed: Followed) -> None:
    bus = BusInTime(followed.path)
    assert bus.head(OBSERVATIONS) == 1
    _remove(followed.path)
    SqliteBus(followed.path).head(OBSERVATIONS)
    with pytest.raises(BusReplaced):
        bus.head(OBSERVATIONS)
    assert bus.head(OBSERVATIONS) == 0


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


def test_whatever_else_goes_wrong_with_the_bus_is_trouble_and_no_error(followed: Followed, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> object:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(BusInTime, "read", broken)
        sleep(1.01)
        followed.look()
        assert "ZeroDivisionError" in str(followed.facts.trouble)
    assert followed.recovers()


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
