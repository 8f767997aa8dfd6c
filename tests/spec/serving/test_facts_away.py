"""A bus that is down, hangs, is replaced or damaged costs answers nothing but age."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from time import monotonic, sleep

import pytest

from facts_builders import LOOK_S, Followed
from mlops_lab.errors import BusReplaced, BusUnreachable
from mlops_lab.events import OBSERVATIONS
from mlops_lab.events.in_time import BusInTime
from mlops_lab.events.on_sqlite import SqliteBus
from serving_builders import NOON, a_count

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


def test_whatever_else_goes_wrong_with_the_bus_is_trouble_and_no_error(followed: Followed, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> object:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(BusInTime, "read", broken)
        sleep(1.01)
        followed.look()
        assert "ZeroDivisionError" in str(followed.facts.trouble)
    assert followed.recovers()
