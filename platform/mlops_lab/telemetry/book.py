"""Which trace a prediction was answered in, kept until its outcome comes, hours later: an outcome names its prediction and no trace."""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from mlops_lab.telemetry.context import TraceContext

MOST = 200_000
"""Predictions that are remembered; the oldest go first."""
_AT_ONCE = 500

_TABLE = "CREATE TABLE IF NOT EXISTS prediction (id TEXT PRIMARY KEY, traceparent TEXT NOT NULL)"


class TraceBook:
    """A file of its own, which may be lost: then outcomes are not traced, and nothing else is different."""

    def __init__(self, path: Path, most: int = MOST, patience_s: float = 2.0) -> None:
        """Args:
        path: Made at the first note.
        most: Predictions that are remembered.
        patience_s: How long another process that writes is waited for.
        """
        self._path = path
        self._most = most
        self._patience_s = patience_s

    def note(self, traces: Mapping[str, TraceContext]) -> None:
        """Remember the traces of predictions, by id. Raises OSError where the file refuses."""
        if not traces:
            return
        with self._opened() as book, book:
            book.executemany("INSERT OR IGNORE INTO prediction VALUES (?, ?)", ((key, at.traceparent) for key, at in traces.items()))
            book.execute("DELETE FROM prediction WHERE rowid <= (SELECT max(rowid) FROM prediction) - ?", (self._most,))

    def find(self, predictions: Iterable[str]) -> dict[str, TraceContext]:
        """Those of the predictions that were traced. Raises OSError where the file refuses."""
        if not self._path.exists():
            return {}
        asked = list(predictions)
        found: dict[str, TraceContext] = {}
        with self._opened() as book:
            for at in range(0, len(asked), _AT_ONCE):
                for key, traceparent in _rows(book, asked[at : at + _AT_ONCE]):
                    if context := TraceContext.parse(traceparent):
                        found[key] = context
        return found

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """Whatever the file refuses, and whenever, is an OSError: those who note and find go on without it."""
        try:
            with closing(sqlite3.connect(self._path, timeout=self._patience_s)) as book:
                book.execute("PRAGMA journal_mode=WAL")
                book.execute("PRAGMA synchronous=OFF")
                book.execute(_TABLE)
                yield book
        except sqlite3.Error as error:
            raise OSError(f"{self._path}: {error}") from error


def _rows(book: sqlite3.Connection, keys: Sequence[str]) -> Sequence[tuple[str, str]]:
    marks = ",".join("?" * len(keys))
    return book.execute(f"SELECT id, traceparent FROM prediction WHERE id IN ({marks})", keys).fetchall()
