"""What a replay writes down: its journal of attempts, and which faults are on."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from flight_builders import SCHEDULED
from mlops_lab.errors import StoreUnreachable, UnknownName
from mlops_lab.replay.faults import Faults
from mlops_lab.replay.journal import Attempt, Journal

MONDAY = datetime(2013, 4, 1, tzinfo=UTC)
MINUTE, DAY, WEEK = timedelta(minutes=1), timedelta(days=1), timedelta(weeks=1)


def an_attempt(kind: str = "predict", status: int = 200, ids: tuple[str, ...] = ("p1",), **changes: Any) -> Attempt:
    usual: dict[str, Any] = {"at": MONDAY, "rows": len(ids) or 1, "latency_us": 1000, "reason": ""}
    return Attempt(kind=kind, status=status, ids=ids, **(usual | changes))


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(tmp_path / "replay.db")
    yield opened
    opened.close()


def test_a_new_journal_knows_nothing(journal: Journal) -> None:
    assert journal.cursor() is None
    assert journal.open_questions() == {}
    assert journal.tally("predict").attempts == 0
    assert not journal.unfinished()


def test_the_tally_counts_attempts_rows_and_failures_of_one_kind(journal: Journal) -> None:
    for latency_ms in range(1, 101):
        journal.add(an_attempt(ids=("a", "b"), latency_us=latency_ms * 1000))
    journal.add(an_attempt(status=503, ids=(), latency_us=500, reason="disk full"))
    journal.add(an_attempt(status=0, ids=(), latency_us=500, reason="ConnectionRefusedError"))
    journal.add(an_attempt("feedback", status=202, ids=("e1",)))
    journal.flush()
    tally = journal.tally("predict")

    assert (tally.attempts, tally.rows, tally.failed) == (102, 202, 2)
    assert tally.p50_ms == pytest.approx(50, abs=1)
    assert tally.p99_ms == pytest.approx(99, abs=1)
    assert (journal.tally("feedback").attempts, journal.tally("feedback").failed) == (1, 0)
    assert [status for _, _, status, _ in journal.failures()] == [503, 0]


def test_ids_are_those_that_were_answered_in_order(journal: Journal) -> None:
    for attempt in (an_attempt(ids=("a", "b")), an_attempt(status=500, ids=()), an_attempt(ids=("c",)), an_attempt("probe", ids=("d",))):
        journal.add(attempt)
    journal.flush()

    assert journal.ids("predict") == ["a", "b", "c"]
    assert journal.ids("probe") == ["d"]


def test_cursor_and_open_questions_are_written_with_the_attempts(journal: Journal, tmp_path: Path) -> None:
    journal.begin()
    journal.add(an_attempt())
    journal.flush(cursor=MONDAY, open_questions={"flight": ("p1", MONDAY)})
    again = Journal(tmp_path / "replay.db")

    assert (again.cursor(), again.open_questions()) == (MONDAY, {"flight": ("p1", MONDAY)})
    assert again.ids("predict") == ["p1"]
    assert not again.unfinished()
    again.close()


def test_a_replay_that_began_and_did_not_end_is_unfinished(journal: Journal) -> None:
    journal.begin()
    journal.begin()
    journal.add(an_attempt())
    journal.flush()

    assert journal.unfinished()


def test_attempts_of_long_ago_can_be_forgotten_and_nothing_else(journal: Journal) -> None:
    for days in (0, 1, 2):
        journal.add(Attempt("predict", SCHEDULED + days * DAY, 1, 200, 100, (f"p-{days}",)))
    journal.flush(cursor=SCHEDULED, open_questions={"A": ("p-0", SCHEDULED)})

    assert journal.forget(SCHEDULED + DAY) == 1

    assert journal.ids("predict") == ["p-1", "p-2"]
    assert (journal.cursor(), journal.open_questions()) == (SCHEDULED, {"A": ("p-0", SCHEDULED)})


def test_a_killed_replay_leaves_what_was_flushed_and_its_cursor(tmp_path: Path) -> None:
    code = f"""
import os, signal
from datetime import UTC, datetime
from pathlib import Path
from mlops_lab.replay.journal import Attempt, Journal
journal, at = Journal(Path({str(tmp_path / "replay.db")!r})), datetime(2013, 4, 1, tzinfo=UTC)
for name in ("a", "b"):
    journal.begin()
    journal.add(Attempt("predict", at, 1, 200, 900, (name,)))
    journal.flush(cursor=at, open_questions={{name: (name, at)}})
journal.begin()
journal.add(Attempt("predict", at, 1, 200, 900, ("lost",)))
os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", code], env=os.environ, timeout=60)
    journal = Journal(tmp_path / "replay.db")

    assert killed.returncode == -signal.SIGKILL
    assert journal.ids("predict") == ["a", "b"]
    assert journal.cursor() == MONDAY
    assert journal.open_questions() == {"b": ("b", MONDAY)}
    assert journal.unfinished()
    journal.close()


def test_a_flush_that_fails_leaves_nothing_and_the_next_one_writes_all(journal: Journal, tmp_path: Path) -> None:
    disk = sqlite3.connect(tmp_path / "replay.db", isolation_level=None)
    disk.execute("CREATE TRIGGER full BEFORE INSERT ON cursor BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    journal.begin()
    journal.add(an_attempt())
    with pytest.raises(StoreUnreachable, match="disk full"):
        journal.flush(cursor=MONDAY)
    assert journal.ids("predict") == []
    assert journal.unfinished()

    disk.execute("DROP TRIGGER full")
    journal.flush(cursor=MONDAY)
    disk.close()
    assert journal.ids("predict") == ["p1"]
    assert journal.cursor() == MONDAY


def test_a_journal_that_cannot_be_opened_says_where(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StoreUnreachable, match=r"replay\.db"):
        Journal(tmp_path / "file" / "replay.db")


# --- Faults that are on -----------------------------------------------------------------------------------------------------------


def names(faults: Sequence[Any]) -> list[str]:
    return [one.name for one in faults]


def test_a_fault_is_on_until_it_is_cleared_and_its_past_stays(tmp_path: Path) -> None:
    Faults(tmp_path).start("concept-shift", MONDAY)
    Faults(tmp_path).start("concept-shift", MONDAY + DAY)
    Faults(tmp_path).start("null-burst", MONDAY + DAY)

    assert Faults(tmp_path).clear("concept-shift", at=MONDAY + WEEK) == ["concept-shift"]
    assert names(Faults(tmp_path).active()) == ["null-burst"]
    assert [(one.name, one.since, one.until) for one in Faults(tmp_path).all()] == [
        ("concept-shift", MONDAY, MONDAY + WEEK),
        ("null-burst", MONDAY + DAY, None),
    ]


def test_a_fault_that_nobody_knows_is_refused_with_the_near_miss(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="concept-shift"):
        Faults(tmp_path).start("concept-shfit", MONDAY)
    assert Faults(tmp_path).all() == []


def test_a_fault_that_is_cleared_before_it_began_never_was(tmp_path: Path) -> None:
    Faults(tmp_path).start("unit-change", MONDAY + DAY)

    assert Faults(tmp_path).clear(at=MONDAY) == ["unit-change"]
    assert Faults(tmp_path).all() == []
