"""Rows of the online table in one SQLite file, as Feast writes them.

Readers of the write-ahead log wait for nobody in the ordinary case, and for too long in rare ones (see `events/in_time.py`). So a thread
reads, with a deadline.
"""

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from mlops_lab.deadline import Aside, TooLate
from mlops_lab.errors import FeatureStoreUnreachable
from mlops_lab.features import progress
from mlops_lab.features.breaker import Breaker
from mlops_lab.features.feast_layout import PROJECT, Layout, from_value_proto
from mlops_lab.features.rows import Progress, Reading, RowRef, components_of

FILE = "online-features.db"
"""Name of the file in a home."""

_LOCK_S = 0.005
_FIRST_S = 1.0

T = TypeVar("T")


class SqliteRows:
    """Implements `RowReader`. Used from one thread; never makes the file, and notices when another one comes to its place."""

    def __init__(self, path: Path, layout: Layout, deadline_s: float = 0.02) -> None:
        self._path = path
        self._layout = layout
        self._deadline_s = deadline_s
        self._queries = {
            view: f"SELECT value FROM {layout.sqlite_table(view)} WHERE entity_key = ? AND feature_name = '{components_of(view)}'"
            for view in layout.views
        }
        self._db: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._progress: tuple[object, Progress | None] = (None, None)
        self._aside = Aside("features-reader")
        self._breaker = Breaker(self._revive, str(path))
        self._waited = False

    def read(self, wanted: Sequence[RowRef]) -> Reading:
        if not self._waited:
            self._waited = True
            self._breaker.wait(_FIRST_S)
        self._breaker.require()
        try:
            return self._in_time(lambda: self._read(wanted), self._deadline_s)
        except FeatureStoreUnreachable as error:
            self._breaker.open(error)
            raise

    def progress(self) -> Progress | None:
        return self.read(()).progress

    def close(self) -> None:
        """End the thread and the connection, and trying."""
        self._breaker.end()
        self._aside.end(self._let_go)

    def _revive(self) -> None:
        """By the breaker's thread, while nobody else asks."""
        self._in_time(lambda: self._read(()), _FIRST_S)

    def _in_time(self, job: Callable[[], T], patience_s: float) -> T:
        try:
            return self._aside.call(job, patience_s)
        except TooLate as error:
            raise FeatureStoreUnreachable.at(str(self._path), str(error), "timeout") from None

    def _read(self, wanted: Sequence[RowRef]) -> Reading:
        """All of one state of the file: it stands still for a reader until it ends its transaction."""
        try:
            db = self._open()
            db.execute("BEGIN")
            try:
                said = self._said(db)
                entity_key, queries = self._layout.entity_key, self._queries
                found = [db.execute(queries[ref.view], (entity_key(ref),)).fetchone() for ref in wanted]
            finally:
                db.execute("ROLLBACK")
        except (sqlite3.Error, OSError) as error:
            self._let_go()
            missing = isinstance(error, FileNotFoundError) or "unable to open" in str(error)
            raise FeatureStoreUnreachable.at(str(self._path), str(error), "refused" if missing else "error") from error
        rows: list[bytes | None] = []
        unusable = 0
        for value in found:
            try:
                rows.append(None if value is None else from_value_proto(value[0]))
            except (ValueError, TypeError):
                unusable += 1
                rows.append(None)
        return Reading(rows, said, unusable)

    def _said(self, db: sqlite3.Connection) -> Progress | None:
        try:
            row = db.execute("SELECT said FROM lab_progress WHERE project = ?", (self._layout.project,)).fetchone()
        except sqlite3.OperationalError as error:
            if "no such table" not in str(error):
                raise
            return None
        said = row[0] if row else None
        if said != self._progress[0]:
            self._progress = (said, _progress(said))
        return self._progress[1]

    def _open(self) -> sqlite3.Connection:
        stat = self._path.stat()
        file = (stat.st_dev, stat.st_ino)
        if self._db is not None and self._file != file:
            self._let_go()
        if self._db is None:
            where = f"{self._path.absolute().as_uri()}?mode=ro"
            self._db = sqlite3.connect(where, uri=True, timeout=_LOCK_S, isolation_level=None, check_same_thread=False)
            self._file = file
        return self._db

    def _let_go(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            with suppress(sqlite3.Error):  # of no use any more, whatever closing it says
                db.close()


class SqliteProgress:
    """How far the stream is in, beside the rows, for those who write them."""

    def __init__(self, path: Path, project: str = PROJECT, timeout_s: float = 10.0) -> None:
        self._path = path
        self._project = project
        self._timeout_s = timeout_s
        self._db: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None

    def write(self, said: Progress) -> None:
        """Call this after the rows are written. Raises FeatureStoreUnreachable."""
        self._execute(
            "INSERT INTO lab_progress VALUES (?, ?) ON CONFLICT (project) DO UPDATE SET said = excluded.said",
            (self._project, progress.to_json(said).decode()),
        )

    def read(self) -> Progress | None:
        """What was written last; None where nobody has, and for what is none of ours. Raises FeatureStoreUnreachable."""
        found = self._execute("SELECT said FROM lab_progress WHERE project = ?", (self._project,))
        return _progress(found[0][0]) if found else None

    def close(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            db.close()

    def _execute(self, statement: str, values: tuple[object, ...]) -> list[tuple[object, ...]]:
        try:
            if self._db is not None and self._found() != self._file:
                self.close()  # removed or put back: what is open lives on, and nobody else can see it
            if self._db is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._db = sqlite3.connect(self._path, timeout=self._timeout_s, isolation_level=None, check_same_thread=False)
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute("PRAGMA synchronous=NORMAL")
                self._db.execute("CREATE TABLE IF NOT EXISTS lab_progress (project TEXT PRIMARY KEY, said TEXT NOT NULL)")
                self._file = self._found()
            return self._db.execute(statement, values).fetchall()
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise FeatureStoreUnreachable.at(str(self._path), str(error)) from error

    def _found(self) -> tuple[int, int] | None:
        try:
            stat = self._path.stat()
        except FileNotFoundError:
            return None
        return stat.st_dev, stat.st_ino


def _progress(said: object) -> Progress | None:
    return progress.from_json(said) if isinstance(said, str | bytes) else None
