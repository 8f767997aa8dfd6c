"""The event bus on one SQLite file: durable, shared by several processes, no server."""

import json
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mlops_lab.clock import from_iso, iso
from mlops_lab.errors import BusUnreachable, MessageUnreadable
from mlops_lab.events.message import SOURCE, Message, checked_data
from mlops_lab.events.port import Delivery

_SCHEMA = """
CREATE TABLE IF NOT EXISTS message (
    topic TEXT NOT NULL, offset INTEGER NOT NULL, id TEXT NOT NULL, source TEXT NOT NULL, type TEXT NOT NULL,
    at TEXT NOT NULL, subject TEXT NOT NULL, data TEXT NOT NULL, traceparent TEXT NOT NULL DEFAULT '',
    partition_key TEXT NOT NULL DEFAULT '', version INTEGER NOT NULL DEFAULT 1,
    PRIMARY KEY (topic, offset)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS progress (
    grp TEXT NOT NULL, topic TEXT NOT NULL, offset INTEGER NOT NULL, PRIMARY KEY (grp, topic)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS about (one INTEGER PRIMARY KEY CHECK (one = 1), log_id TEXT NOT NULL);
"""
_EACH_ID_ONCE = "CREATE UNIQUE INDEX IF NOT EXISTS message_id ON message (topic, id)"
_ANY_IDS = "DROP INDEX IF EXISTS message_id"
_LATER = {
    "traceparent": "TEXT NOT NULL DEFAULT ''",
    "partition_key": "TEXT NOT NULL DEFAULT ''",
    "version": "INTEGER NOT NULL DEFAULT 1",
}
"""The columns that came after the first release, in their order."""
_COLUMNS = "id, source, type, at, subject, data, traceparent, partition_key, version"
_INSERT = f"INSERT INTO message (topic, offset, {_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?)"
_UNLESS_KNOWN = " ON CONFLICT (topic, id) DO NOTHING"
_SELECT = f"SELECT offset, {_COLUMNS} FROM message WHERE topic = ? AND offset > ? ORDER BY offset LIMIT ?"

_encode = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode


class SqliteBus:
    """A topic is an ordered table, a consumer group is a row that remembers an offset.

    Safe for several processes (write-ahead log, one writer at a time) and for several threads of one.
    A message that was published survives the death of its publisher; power loss may cost the last moments.
    """

    def __init__(self, path: Path, timeout_s: float = 10.0, *, only_read: bool = False, each_id_once: bool = True) -> None:
        """Args:
        path: The file; made when it is missing, unless it is only read.
        timeout_s: How long to wait for a lock. Not the longest that a call can take, see `in_time.py`.
        only_read: Never make, change or tidy up a file.
        each_id_once: Leave out what a topic has already, by its id. Otherwise all is kept as it was published.
        """
        self._path = path
        self._timeout_s = timeout_s
        self._only_read = only_read
        self._each_id_once = each_id_once
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def publish(self, topic: str, messages: Iterable[Message]) -> int:
        rows = [
            (m.id, m.source, m.type, iso(m.at), m.subject, _encode(dict(m.data)), m.traceparent, m.partition_key, m.version)
            for m in messages
        ]
        if not rows:
            return 0
        insert = _INSERT + (_UNLESS_KNOWN if self._each_id_once else "")
        with self._lock:
            db = self._open()
            try:
                db.execute("BEGIN IMMEDIATE")
                head = before = self._head(db, topic)
                for row in rows:
                    head += db.execute(insert, (topic, head + 1, *row)).rowcount
                db.execute("COMMIT")
            except sqlite3.Error as error:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise BusUnreachable.at(str(self._path), str(error)) from error
        return head - before

    def partitions(self, topic: str) -> int:
        return 1

    def read(self, topic: str, after: int, limit: int = 1000, partition: int = 0) -> Sequence[Delivery]:
        found = self._query(_SELECT, (topic, after, limit))
        deliveries: list[Delivery] = []
        for row in found:
            try:
                deliveries.append(Delivery(row[0], _message(row[1:])))
            except (ValueError, TypeError, RecursionError) as error:
                if deliveries:
                    break  # told when somebody has come that far
                raise MessageUnreadable.at(str(self._path), topic, row[0], str(error), raw=_raw(row[1:])) from error
        return deliveries

    def head(self, topic: str, partition: int = 0) -> int:
        return int(self._query("SELECT COALESCE(MAX(offset), 0) FROM message WHERE topic = ?", (topic,))[0][0])

    def waiting(self) -> dict[str, int]:
        return {}

    def log_id(self, topic: str) -> str:
        return str(self._query("SELECT log_id FROM about", ())[0][0], "ascii")

    def committed(self, group: str, topic: str, partition: int = 0) -> int:
        found = self._query("SELECT offset FROM progress WHERE grp = ? AND topic = ?", (group, topic))
        return int(found[0][0]) if found else 0

    def commit(self, group: str, topic: str, offset: int, partition: int = 0) -> None:
        self._query(
            "INSERT INTO progress VALUES (?,?,?) ON CONFLICT (grp, topic) DO UPDATE SET offset = excluded.offset",
            (group, topic, offset),
        )

    def groups(self, topic: str) -> Sequence[str]:
        return [group.decode() for (group,) in self._query("SELECT grp FROM progress WHERE topic = ? ORDER BY grp", (topic,))]

    def topics(self) -> Sequence[str]:
        """The topics that anything was ever published to, sorted."""
        return [name.decode() for (name,) in self._query("SELECT DISTINCT topic FROM message ORDER BY topic", ())]

    def forget(self, topic: str, until: int) -> None:
        """Remove the messages up to an offset, all but the newest of the topic: offsets go on from there."""
        self._query(
            "DELETE FROM message WHERE topic = ? AND offset <= ? AND offset < (SELECT MAX(offset) FROM message WHERE topic = ?)",
            (topic, until, topic),
        )

    def close(self) -> None:
        """Let go of the file; the next call opens it again."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _query(self, statement: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
        with self._lock:
            try:
                return self._open().execute(statement, values).fetchall()
            except sqlite3.Error as error:
                raise BusUnreachable.at(str(self._path), str(error)) from error

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            try:
                if not self._only_read:
                    self._path.parent.mkdir(parents=True, exist_ok=True)
                where = f"{self._path.absolute().as_uri()}?mode={'ro' if self._only_read else 'rwc'}"
                db = sqlite3.connect(where, uri=True, timeout=self._timeout_s, isolation_level=None, check_same_thread=False)
            except (sqlite3.Error, OSError) as error:
                raise BusUnreachable.at(str(self._path), str(error)) from error
            try:
                if not self._only_read:
                    _prepare(db, each_id_once=self._each_id_once)
            except sqlite3.Error as error:
                db.close()
                raise BusUnreachable.at(str(self._path), str(error)) from error
            db.text_factory = bytes  # decoded by message, so that one that is no UTF-8 is the only one that cannot be read
            self._connection = db
        return self._connection

    @staticmethod
    def _head(db: sqlite3.Connection, topic: str) -> int:
        return int(db.execute("SELECT COALESCE(MAX(offset), 0) FROM message WHERE topic = ?", (topic,)).fetchone()[0])


def _prepare(db: sqlite3.Connection, *, each_id_once: bool) -> None:
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=NORMAL")
    db.execute("PRAGMA wal_autocheckpoint=8000")  # pages; a checkpoint waits for the disk, so not every second one
    db.executescript(_SCHEMA)
    db.execute(_EACH_ID_ONCE if each_id_once else _ANY_IDS)
    _add_columns(db)
    if db.execute("SELECT 1 FROM about").fetchone() is None:  # looked at first: writing waits for other writers
        db.execute("INSERT OR IGNORE INTO about VALUES (1, lower(hex(randomblob(8))))")


def _add_columns(db: sqlite3.Connection) -> None:
    """Give a bus of an earlier release the columns that it lacks; of two processes that open it at once, one does."""
    there = {column[1] for column in db.execute("PRAGMA table_info(message)")}
    for name, kind in _LATER.items():
        if name not in there:
            try:
                db.execute(f"ALTER TABLE message ADD COLUMN {name} {kind}")
            except sqlite3.OperationalError as error:
                if "duplicate column" not in str(error):
                    raise


def _raw(row: tuple[object, ...]) -> bytes:
    """What the columns hold, byte by byte: attributes as headers, then the data, as the binary mode of CloudEvents has it."""
    names = ("id", "source", "type", "time", "subject", "data", "traceparent", "partitionkey", "version")
    values = (value if isinstance(value, bytes) else str(value).encode() for value in row)
    found = dict(zip(names, values, strict=True))
    data = found.pop("data")
    return b"".join(f"ce-{name}: ".encode() + value + b"\n" for name, value in found.items()) + b"\n" + data


def _message(row: tuple[Any, ...]) -> Message:
    """Raises ValueError or TypeError for what was not written by `publish`."""
    identifier, source, kind, at, subject, data, traceparent, partition_key = (value.decode() for value in row[:-1])
    content = checked_data(json.loads(data))
    return Message(kind, from_iso(at), subject, content, identifier, source or SOURCE, traceparent, partition_key, int(row[-1]))
