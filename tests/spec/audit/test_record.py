"""What happened is on record, whole or not at all, whoever writes and whoever dies."""

import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import inspect, text

from audit_builders import AT, KEY, a_trail, a_trail_of, record
from audit_tamperings import forge_an_entry
from databases import database_of
from mlops_lab.audit import AuditEntry, Head, HeadsFile, digest_of, first_break, link, seal
from mlops_lab.audit.on_sql import SqlAudit
from mlops_lab.clock import WallClock
from mlops_lab.errors import AuditBroken, EvidenceMissing, RegistryUnreachable, UsageError
from mlops_lab.events.on_sql import writing

# A process of its own: argv is the home, then what to do.
WRITER = """
import os, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import text
from mlops_lab.audit import HeadsFile
from mlops_lab.audit.on_sql import SqlAudit, open_engine
from mlops_lab.clock import WallClock
from mlops_lab.events import CONTROL, Message

home, mode = Path(sys.argv[1]), sys.argv[2]
die = lambda: os.kill(os.getpid(), signal.SIGKILL)

class DiesBeforeTheHead(HeadsFile):
    def append_missing(self, upto, missing):
        die()

class DiesWithinTheHead(HeadsFile):
    def append_missing(self, upto, missing):
        with open(self.path, "ab") as file:
            file.write(b'{"seq":4,"ha')
        die()

heads = {"before-head": DiesBeforeTheHead, "within-head": DiesWithinTheHead}.get(mode, HeadsFile)(home / "second" / "heads.jsonl")
trail = SqlAudit(open_engine(sys.argv[4]), heads, Ed25519PrivateKey.from_private_bytes(bytes(range(32))), WallClock())
for number in range(int(sys.argv[3])):
    with trail.recording(actor=mode, action="Tried", subject=str(number), reason="-", at=datetime(2013, 4, 8, tzinfo=UTC)) as tx:
        tx.emit(CONTROL, Message("Tried", tx.at, mode, {"number": number}))
        if mode == "before-commit":
            die()
"""


def run_writer(home: Path, mode: str, times: int = 1) -> int:
    return subprocess.run(
        [sys.executable, "-c", WRITER, str(home), mode, str(times), database_of(home)], check=False, env=os.environ
    ).returncode


@pytest.fixture
def trail(tmp_path: Path) -> SqlAudit:
    return a_trail(tmp_path)


def test_an_entry_says_who_did_what_why_and_when_on_both_clocks(trail: SqlAudit) -> None:
    record(trail, 3)

    (entry,) = trail.entries()
    assert (entry.actor, entry.action, entry.subject, entry.reason) == ("ann", "ModelPromoted", "flight-delay/3", "gain 3")
    assert (entry.at, entry.recorded_at) == (AT + timedelta(days=3), datetime(2026, 1, 5, 9, tzinfo=UTC))
    assert entry.digests == {"scorer": digest_of(3)}
    assert trail.verify() is None


def test_an_empty_trail_holds(trail: SqlAudit) -> None:
    assert trail.verify() is None
    assert trail.entries() == []


def test_an_entry_and_what_it_records_are_written_together(trail: SqlAudit) -> None:
    with trail.recording(actor="ann", action="Noted", subject="x", reason="-", at=AT) as tx:
        tx.connection.execute(text("CREATE TABLE note (content TEXT)"))
        tx.connection.execute(text("INSERT INTO note VALUES ('kept')"))
        tx.digests["note"] = digest_of("kept")

    assert trail.entries()[0].digests == {"note": digest_of("kept")}
    with writing(trail.engine) as connection:
        assert connection.execute(text("SELECT content FROM note")).scalars().all() == ["kept"]


def test_an_exception_undoes_the_entry_and_what_it_records(trail: SqlAudit) -> None:
    def fail_on_the_way() -> None:
        with trail.recording(actor="ann", action="Noted", subject="x", reason="-", at=AT) as tx:
            tx.connection.execute(text("CREATE TABLE note (content TEXT)"))
            raise ZeroDivisionError

    record(trail)
    with pytest.raises(ZeroDivisionError):
        fail_on_the_way()

    assert len(trail.entries()) == 1
    with writing(trail.engine) as connection:
        assert not inspect(connection).has_table("note")
    assert trail.verify() is None


def test_nobody_is_no_actor(trail: SqlAudit) -> None:
    nobody = trail.recording(actor=" ", action="a", subject="s", reason="r", at=AT)
    with pytest.raises(EvidenceMissing, match="without actor"), nobody:
        """Nothing else is wrong with it."""

    assert trail.entries() == []


def test_a_record_within_a_record_is_refused_at_once(trail: SqlAudit) -> None:
    """It would wait for its own lock; the outer record is undone, and the trail goes on."""
    with pytest.raises(UsageError, match="still open"), trail.recording(actor="a", action="b", subject="outer", reason="", at=AT):
        record(trail)

    record(trail)
    assert [entry.subject for entry in trail.entries()] == ["flight-delay/1"]


def test_a_database_that_is_none_is_said_to_be_unreachable(tmp_path: Path) -> None:
    (tmp_path / "lab.db").write_bytes(b"this is a letter, not a database" * 100)

    with pytest.raises(RegistryUnreachable, match="not a database"):
        a_trail(tmp_path).entries()


def test_an_entry_that_cannot_be_read_stops_the_trail_from_growing(tmp_path: Path) -> None:
    trail = a_trail_of(tmp_path, 2)
    with writing(trail.engine) as connection:
        connection.execute(text("UPDATE audit_entry SET digests = 'gone' WHERE seq = 2"))

    with pytest.raises(AuditBroken, match="entry 2"):
        record(trail)
    found = trail.verify()
    assert found is not None
    assert str(found) == "entry 2 edited: it cannot be read."


def test_processes_that_write_at_once_never_fork_the_chain(tmp_path: Path) -> None:
    """Four processes open a new home at the same moment and write ten entries each."""
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    writers = [subprocess.Popen([*command, f"writer-{each}", "10", database_of(tmp_path)]) for each in range(4)]
    assert [writer.wait() for writer in writers] == [0, 0, 0, 0]

    trail = a_trail(tmp_path)
    assert [entry.seq for entry in trail.entries()] == list(range(1, 41))
    assert [head and head.seq for head in HeadsFile(tmp_path / "second" / "heads.jsonl").read()] == list(range(1, 41))
    assert trail.verify() is None


def test_a_writer_killed_before_its_commit_leaves_nothing(tmp_path: Path) -> None:
    trail = a_trail_of(tmp_path, 2)

    assert run_writer(tmp_path, "before-commit") == -signal.SIGKILL

    assert len(trail.entries()) == 2
    with writing(trail.engine) as connection:
        assert connection.execute(text("SELECT count(*) FROM outbox")).scalar_one() == 0
    record(trail, 3)
    assert trail.verify() is None


@pytest.mark.parametrize("when", ["before-head", "within-head"])
def test_the_head_that_a_killed_writer_left_out_is_added(tmp_path: Path, when: str) -> None:
    """Killed after the commit, before or within the line of the second place: the next check or record completes it."""
    trail = a_trail_of(tmp_path, 3)
    heads = HeadsFile(tmp_path / "second" / "heads.jsonl")

    assert run_writer(tmp_path, when) == -signal.SIGKILL
    assert (len(trail.entries()), len(heads.read())) == (4, 3)
    assert trail.verify() is None
    assert len(heads.read()) == 4

    assert run_writer(tmp_path, when) == -signal.SIGKILL
    record(trail, 6)
    assert [head and head.seq for head in heads.read()] == [1, 2, 3, 4, 5, 6]
    assert trail.verify() is None


def test_an_entry_that_somebody_else_appended_gets_no_head(tmp_path: Path) -> None:
    """Its hash may be right, for anybody can compute one; the seal cannot."""
    trail = a_trail_of(tmp_path, 3)
    forge_an_entry(tmp_path, trail)

    found = trail.verify()

    assert found is not None
    assert str(found) == "entry 4 unsealed: no trusted key signed it."
    assert len(HeadsFile(tmp_path / "second" / "heads.jsonl").read()) == 3


def test_a_key_may_be_changed_when_the_old_one_stays_trusted(tmp_path: Path) -> None:
    a_trail_of(tmp_path, 2)
    new = Ed25519PrivateKey.generate()

    stranger = a_trail(tmp_path, new)
    successor = SqlAudit(stranger.engine, HeadsFile(tmp_path / "second" / "heads.jsonl"), new, WallClock(), trusted=[KEY.public_key()])

    assert str(stranger.verify()) == "entry 1 unsealed: no trusted key signed it."
    record(successor, 3)
    assert successor.verify() is None


def test_an_entry_that_follows_from_another_history_is_named() -> None:
    """Sealed with the right key, but linked to an entry that is not the one before it."""

    def entry_behind(last: AuditEntry | None, reason: str) -> AuditEntry:
        entry = link(last, at=AT, recorded_at=AT, actor="ann", action="Noted", subject="x", reason=reason, digests={})
        return replace(entry, seal=seal(entry.seq, entry.hash, KEY).signature)

    ours, theirs = entry_behind(None, "ours"), entry_behind(None, "theirs")
    chain = [ours, entry_behind(theirs, "-")]

    assert str(first_break(chain, [], [KEY.public_key()])) == "entry 2 rewritten: it does not follow from the entry before it."


def test_the_second_place_is_written_by_one_at_a_time(tmp_path: Path) -> None:
    """While one writer completes the file, the next one waits, and then finds nothing missing."""
    path, heads = tmp_path / "heads.jsonl", [seal(number, digest_of(number), KEY) for number in (1, 2)]
    added: list[int] = []
    second = threading.Thread(target=lambda: added.append(HeadsFile(path).append_missing(2, lambda last: heads[last:])))

    def missing(last: int) -> list[Head]:
        second.start()
        second.join(timeout=0.2)
        assert second.is_alive()
        return heads[last:]

    assert HeadsFile(path).append_missing(2, missing) == 2
    second.join()
    assert added == [0]
    assert HeadsFile(path).read() == heads
