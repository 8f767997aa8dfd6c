"""The replay's own history: every attempt and what came of it. Evidence that does not depend on what the service says of itself."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mlops_lab.clock import from_iso, iso
from mlops_lab.errors import StoreUnreachable

_SCHEMA = """
CREATE TABLE IF NOT EXISTS attempt (
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, at TEXT NOT NULL, rows INTEGER NOT NULL, status INTEGER NOT NULL,
    latency_us INTEGER NOT NULL, ids TEXT NOT NULL, reason TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS cursor (id INTEGER PRIMARY KEY CHECK (id = 1), at TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS unfinished (id INTEGER PRIMARY KEY CHECK (id = 1));
CREATE TABLE IF NOT EXISTS lead (id INTEGER PRIMARY KEY CHECK (id = 1), at TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS origin (id INTEGER PRIMARY KEY CHECK (id = 1), at TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS open_question (entity TEXT PRIMARY KEY, prediction_id TEXT NOT NULL, at TEXT NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request that was sent, once.

    Attributes:
        kind: `predict`, `probe` or `feedback`.
        at: Event time at which it was sent.
        rows: Questions or outcomes in it.
        status: HTTP status, 0 for no answer.
        latency_us: Microseconds until the answer was complete.
        ids: Prediction ids that were answered, or event ids that were accepted, in order.
        reason: Why it failed, empty for success.
    """

    kind: str
    at: datetime
    rows: int
    status: int
    latency_us: int
    ids: tuple[str, ...]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Tally:
    """Attempts of one kind."""

    attempts: int
    rows: int
    failed: int
    p50_ms: float
    p99_ms: float


class Journal:
    """Attempts in an SQLite file, written in groups; `flush` makes the last ones durable."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, isolation_level=None, timeout=10)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.executescript(_SCHEMA)
        except (sqlite3.Error, OSError) as error:
            raise StoreUnreachable.at(str(path), str(error)) from error
        self._pending: list[Attempt] = []

    def add(self, attempt: Attempt) -> None:
        """Remember an attempt; written at the latest by the next `flush`."""
        self._pending.append(attempt)

    def begin(self) -> None:
        """Write down that questions are about to be asked behind the cursor; the next `flush` with a cursor takes it back."""
        with self._writing():
            self._db.execute("INSERT OR IGNORE INTO unfinished VALUES (1)")

    def unfinished(self) -> bool:
        """Whether questions may have been asked behind the cursor: a replay began there and was interrupted, or killed."""
        return self._db.execute("SELECT 1 FROM unfinished").fetchone() is not None

    def flush(self, cursor: datetime | None = None, open_questions: dict[str, tuple[str, datetime]] | None = None) -> None:
        """Write what is pending, and how far in event time the replay is, in one transaction.

        Raises StoreUnreachable where the disk refuses; nothing was written then, and the next call tries all of it again.
        """
        rows = [(a.kind, iso(a.at), a.rows, a.status, a.latency_us, ",".join(a.ids), a.reason) for a in self._pending]
        with self._writing():
            self._db.executemany("INSERT INTO attempt (kind, at, rows, status, latency_us, ids, reason) VALUES (?,?,?,?,?,?,?)", rows)
            if cursor is not None:
                self._db.execute("INSERT INTO cursor VALUES (1, ?) ON CONFLICT (id) DO UPDATE SET at = excluded.at", (iso(cursor),))
                self._db.execute("DELETE FROM unfinished")
            if open_questions is not None:
                self._db.execute("DELETE FROM open_question")
                rows_open = [(entity, identifier, iso(at)) for entity, (identifier, at) in open_questions.items()]
                self._db.executemany("INSERT INTO open_question VALUES (?,?,?)", rows_open)
        self._pending.clear()

    def cursor(self) -> datetime | None:
        """Event time up to which the replay has come; None before the first flush with a cursor."""
        found = self._db.execute("SELECT at FROM cursor").fetchone()
        return from_iso(found[0]) if found else None

    def origin(self) -> datetime | None:
        """Event time at which production begins in this home; None where nobody chose."""
        found = self._db.execute("SELECT at FROM origin").fetchone()
        return from_iso(found[0]) if found else None

    def begin_at(self, at: datetime) -> None:
        """Choose where production begins; the first choice stays. Raises StoreUnreachable."""
        with self._writing():
            self._db.execute("INSERT OR IGNORE INTO origin VALUES (1, ?)", (iso(at),))

    def forget(self, before: datetime) -> int:
        """Drop the attempts before an event time; returns how many. Raises StoreUnreachable."""
        with self._writing():
            return self._db.execute("DELETE FROM attempt WHERE at < ?", (iso(before),)).rowcount

    def led_to(self) -> datetime | None:
        """Event time up to which facts were published ahead of the questions; None where they never were."""
        found = self._db.execute("SELECT at FROM lead").fetchone()
        return from_iso(found[0]) if found else None

    def lead_to(self, at: datetime) -> None:
        """Note that all facts up to a moment are published. Raises StoreUnreachable."""
        with self._writing():
            self._db.execute("INSERT INTO lead VALUES (1, ?) ON CONFLICT (id) DO UPDATE SET at = excluded.at", (iso(at),))

    def open_questions(self) -> dict[str, tuple[str, datetime]]:
        """Entities that were asked about not long ago: the prediction id of each and the event time of the question."""
        found = self._db.execute("SELECT entity, prediction_id, at FROM open_question").fetchall()
        return {str(entity): (str(identifier), from_iso(at)) for entity, identifier, at in found}

    def tally(self, kind: str) -> Tally:
        """Counts and latencies of one kind of attempt."""
        found = self._db.execute("SELECT rows, status, latency_us FROM attempt WHERE kind = ? ORDER BY latency_us", (kind,)).fetchall()
        latencies = [row[2] for row in found]
        failed = sum(1 for row in found if not 200 <= row[1] < 300)
        return Tally(len(found), sum(row[0] for row in found), failed, _quantile_ms(latencies, 0.5), _quantile_ms(latencies, 0.99))

    def failures(self, limit: int = 10) -> list[tuple[str, str, int, str]]:
        """The first failed attempts: kind, event time, status, reason."""
        statement = "SELECT kind, at, status, reason FROM attempt WHERE status NOT BETWEEN 200 AND 299 ORDER BY id LIMIT ?"
        return [(str(k), str(at), int(status), str(why)) for k, at, status, why in self._db.execute(statement, (limit,))]

    def ids(self, kind: str) -> list[str]:
        """Every id that was answered or accepted, in the order of the attempts."""
        found = self._db.execute("SELECT ids FROM attempt WHERE kind = ? AND status BETWEEN 200 AND 299 ORDER BY id", (kind,))
        return [identifier for (ids,) in found for identifier in str(ids).split(",") if identifier]

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One transaction, all or nothing."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise StoreUnreachable.at(self._path, str(error)) from error


def _quantile_ms(sorted_us: Sequence[int], q: float) -> float:
    if not sorted_us:
        return 0.0
    return round(sorted_us[min(len(sorted_us) - 1, int(q * len(sorted_us)))] / 1000, 2)
