"""Real processes that write a ledger at once, or die in it: one winner, nothing half."""

import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from databases import database_of
from ledger_builders import AT, a_ledger, approved, events, promote
from mlops_lab.errors import LostTheRace
from mlops_lab.registry import Role
from mlops_lab.registry.on_sql import SqlLedger

# A process of its own: waits for the line of start, then does one thing and says how it went.
RACER = """
import os, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from mlops_lab.audit import HeadsFile
from mlops_lab.audit.on_sql import SqlAudit, open_engine
from mlops_lab.clock import WallClock
from mlops_lab.errors import LostTheRace
from mlops_lab.events import Message
from mlops_lab.registry import Role
from mlops_lab.registry.on_sql import SqlLedger

home, what, number = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
trail = SqlAudit(open_engine(sys.argv[4]), HeadsFile(home / "heads.jsonl"), key, WallClock())
ledger, at, me = SqlLedger(trail, "flight-delay"), datetime(2013, 4, 8, tzinfo=UTC), f"racer-{number}"
champion = ledger.current(Role.CHAMPION)
print("ready", flush=True)
sys.stdin.readline()
try:
    if what == "promote":
        ledger.assign(Role.CHAMPION, number, replacing=champion.id, kind="promotion", by=me, why="better", at=at)
    elif what == "rollback":
        ledger.rollback(at, me, "worse", leaving=champion.version)
    elif what == "decide":
        ledger.record_decision("2013-W14", {"outcome": "retrain", "because": me}, at, me)
    elif what == "restate":
        ledger.record("restatement", "2013-W14", {"version": 2}, at=at, by=me, why="-", behind=0)
    elif what == "pin":
        body = {"id": "pin-a"}
        if ledger.take_in_pin("pin-a", number, barring=[2], superseded=[], at=at, by=me, why="-", body=body) is None:
            sys.exit(print("lost: it is in", flush=True))
    elif what == "write":
        for each in range(1000):
            note = Message("Noted", at, "x", {"each": each})
            ledger.record("note", f"{number}-{each}", {"each": each}, at=at, by=me, why="-", emit=[note])
            print(f"{number}-{each}", flush=True)
    elif what == "die":
        tell = SqlLedger._tell
        def dies(*arguments):
            tell(*arguments)
            os.kill(os.getpid(), signal.SIGKILL)
        SqlLedger._tell = dies
        ledger.assign(Role.CHAMPION, number, replacing=champion.id, kind="promotion", by=me, why="better", at=at)
    print("won", flush=True)
except LostTheRace as error:
    print("lost:", error.what, flush=True)
"""


def race(home: Path, what: str, numbers: list[int]) -> list[str]:
    """Run one process per number from the same start, and return their last lines."""
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(home), what, str(number), database_of(home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in numbers
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    return [racer.communicate()[0].strip() for racer in racers]


def test_of_processes_that_take_in_one_pin_one_does(ledger: SqlLedger, tmp_path: Path) -> None:
    approved(ledger, 1, 2)
    promote(ledger, 1)
    promote(ledger, 2)

    assert sorted(race(tmp_path, "pin", [1, 1, 1])) == ["lost: it is in", "lost: it is in", "won"]
    assert [line.version for line in ledger.assignments()] == [1, 2, 1]


def test_of_processes_that_promote_at_once_exactly_one_wins(ledger: SqlLedger, tmp_path: Path) -> None:
    approved(ledger, 1, 2, 3, 4, 5)
    promote(ledger, 1)

    results = race(tmp_path, "promote", [2, 3, 4, 5])

    winner = ledger.champion().version
    assert results.count("won") == 1
    assert results[results.index("won")] == results[int(str(winner)) - 2]
    assert sum(f"lost: Somebody else was first: the champion is now version {winner}" in result for result in results) == 3
    assert len(ledger.assignments()) == 2
    assert (ledger.unaccounted(), a_ledger(tmp_path)._trail.verify()) == ([], None)


def test_of_processes_that_roll_back_at_once_one_goes_back_one_step(ledger: SqlLedger, tmp_path: Path) -> None:
    approved(ledger, 1, 2, 3)
    for number in (1, 2, 3):
        promote(ledger, number)

    assert sorted(result[:4] for result in race(tmp_path, "rollback", [1, 2, 3])) == ["lost", "lost", "won"]
    assert ledger.champion().version == 2


def test_of_processes_that_decide_at_once_the_first_stands(ledger: SqlLedger, tmp_path: Path) -> None:
    approved(ledger, 1)
    promote(ledger, 1)

    assert race(tmp_path, "decide", [1, 2, 3]) == ["won", "won", "won"]
    assert len(ledger.decisions()) == 1


def test_of_facts_that_were_made_from_the_same_earlier_ones_one_is_kept(ledger: SqlLedger, tmp_path: Path) -> None:
    approved(ledger, 1)
    promote(ledger, 1)

    assert sorted(result[:4] for result in race(tmp_path, "restate", [1, 2, 3])) == ["lost", "lost", "won"]
    (fact,) = ledger.facts("restatement", "2013-W14")
    same = ledger.record("restatement", "2013-W14", {"version": 2}, at=fact.at, by=fact.by, why="-", behind=0)
    assert same.id == fact.id  # the winner again
    with pytest.raises(LostTheRace, match="of kind 'restatement' there are 1 facts about 2013-W14 by now, and not 0"):
        ledger.record("restatement", "2013-W14", {"version": 2}, at=AT, by="late", why="-", behind=0)
    ledger.record("restatement", "2013-W14", {"version": 3}, at=AT, by="late", why="-", behind=1)
    assert ledger.unaccounted() == []


def test_threads_that_promote_at_once_have_one_winner(ledger: SqlLedger) -> None:
    approved(ledger, 1, 2, 3, 4)
    now, outcomes = promote(ledger, 1), []
    start = threading.Barrier(3)

    def run(number: int) -> None:
        start.wait()
        try:
            ledger.assign(Role.CHAMPION, number, replacing=now.id, kind="promotion", by=f"thread-{number}", why="-", at=AT)
            outcomes.append("won")
        except LostTheRace:
            outcomes.append("lost")

    threads = [threading.Thread(target=run, args=(number,)) for number in (2, 3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["lost", "lost", "won"]


def test_a_promoter_killed_in_mid_transaction_changed_nothing(ledger: SqlLedger, tmp_path: Path) -> None:
    """The assignment and its message were written, the audit entry was not: none of it is there, and the next one works."""
    approved(ledger, 1, 2)
    promote(ledger, 1)
    before = (len(ledger.assignments()), len(events(ledger, tmp_path)), len(ledger._trail.entries()))
    killed = subprocess.run(
        [sys.executable, "-c", RACER, str(tmp_path), "die", "2", database_of(tmp_path)],
        input="go\n",
        text=True,
        check=False,
        env=os.environ,
        capture_output=True,
    )

    assert killed.returncode == -signal.SIGKILL
    assert (len(ledger.assignments()), len(events(ledger, tmp_path)), len(ledger._trail.entries())) == before
    assert promote(ledger, 2).version == 2
    assert (ledger.unaccounted(), ledger._trail.verify()) == ([], None)


def test_what_was_acknowledged_before_a_kill_is_there_and_nothing_is_half(ledger: SqlLedger, tmp_path: Path) -> None:
    """Writers that were killed at any moment while they wrote as fast as they could."""
    chance, acknowledged = random.Random(7), []
    for number in range(6):
        command = [sys.executable, "-c", RACER, str(tmp_path), "write", str(number), database_of(tmp_path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdin is not None
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
            writer.stdin.write("go\n")
            writer.stdin.flush()
            acknowledged += [writer.stdout.readline().strip() for _ in range(chance.randint(3, 12))]
            writer.kill()
            acknowledged += writer.stdout.read().split()

        notes = [fact.subject for fact in ledger.facts("note")]
        assert set(acknowledged) <= set(notes)
        assert len(events(ledger, tmp_path)) == len(notes) == len(ledger._trail.entries())
        assert (ledger.unaccounted(), ledger._trail.verify()) == ([], None)
