"""The bus as a replica reads it: it never waits long, and it costs next to nothing while nothing is new.

Readers of SQLite's write-ahead log wait for nobody in the ordinary case. They do wait when another process opens a bus that a crash left
behind and reads its log again, when one holds the file for itself (locking_mode=EXCLUSIVE, VACUUM, the last one that closes it), or was
stopped in the middle of any of these. Then a lock's timeout is not the end of it: while all places for readers are taken, SQLite sleeps
and tries again for ten seconds, whatever the timeout. So reads are left to a thread, with a deadline.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic
from typing import TypeVar

from mlops_lab.deadline import Aside, TooLate
from mlops_lab.errors import BusReplaced, BusTooSlow, BusUnreachable
from mlops_lab.events.on_sqlite import SqliteBus
from mlops_lab.events.port import Delivery

T = TypeVar("T")

MOST, LEAST = 1000, 50
"""Messages asked for at once: half as many after a read that was too late, twice as many after one that took half its time or less."""
_LOCK_S = 0.005
_LOOK_EVERY_S = 1.0
_WAL_INDEX_HEADER = 96


class BusInTime:
    """Reads topics with a deadline. Used from one thread.

    The header of the write-ahead log's index (https://sqlite.org/walformat.html, 2.1) changes with every transaction. While it has not, a
    topic that had nothing new has nothing new, and SQLite is not asked; once a second it is asked nevertheless.

    A read that hangs cannot be interrupted: until its end the bus is said to be down without asking again. On a machine that has other
    things to do, a large read may be too late each time, so less is asked for at once until it comes in time. The file is never made here.
    If another one comes to its place, the next read says so and those after it read that one.
    """

    def __init__(self, path: Path, deadline_s: float = 0.05, first_s: float = 0.5) -> None:
        """Args:
        path: The bus's file.
        deadline_s: What one read may take.
        first_s: What all reads may take together at the start: a cold disk has to be waited for once.
        """
        self._path = path
        self._deadline_s = deadline_s
        self._first_s = first_s
        self._first_until: float | None = None
        self._bus = SqliteBus(path, _LOCK_S, only_read=True)
        self._file: tuple[int, int] | None = None
        self._index: int | None = None
        self._nothing_new: dict[str, tuple[int, bytes, float]] = {}
        self._most = MOST
        self._halved = False
        self._aside = Aside("bus-reader")

    def partitions(self, topic: str) -> int:
        """See Topics.partitions."""
        return 1

    def read(self, topic: str, after: int, limit: int = 1000, partition: int = 0) -> Sequence[Delivery]:
        """See Topics.read. Raises BusUnreachable after the deadline too, BusTooSlow where less may come in time."""
        self._require_idle()
        stamp, now = self._stamp(), monotonic()
        known = self._nothing_new.get(topic)
        if known is not None and known[:2] == (after, stamp) and now < known[2]:
            return ()
        found = self._read_in_time(topic, after, min(limit, self._most))
        if not found and stamp is not None:
            self._nothing_new[topic] = (after, stamp, now + _LOOK_EVERY_S)
        return found

    def head(self, topic: str, partition: int = 0) -> int:
        """See Topics.head. Raises BusUnreachable after the deadline too."""
        self._require_idle()
        return self._in_time(lambda: self._bus.head(topic))

    def log_id(self, topic: str) -> str:
        """See Topics.log_id. Raises BusUnreachable after the deadline too."""
        self._require_idle()
        return self._in_time(lambda: self._bus.log_id(topic))

    def close(self) -> None:
        """End the thread; one that hangs ends later, or with the process."""
        self._aside.end(self._let_go)

    def _stamp(self) -> bytes | None:
        """None where it cannot be told whether anything is new."""
        if self._index is None:
            return None
        header = os.pread(self._index, _WAL_INDEX_HEADER, 0)
        return header if len(header) == _WAL_INDEX_HEADER else None

    def _require_idle(self) -> None:
        if self._aside.hangs:
            raise (BusTooSlow if self._halved else BusUnreachable).at(str(self._path), "an earlier read still hangs")

    def _read_in_time(self, topic: str, after: int, asked: int) -> Sequence[Delivery]:
        began = monotonic()
        try:
            found = self._call(lambda: self._bus.read(topic, after, asked))
        except TooLate as error:
            if asked <= LEAST:
                raise BusUnreachable.at(str(self._path), str(error)) from None
            self._most, self._halved = max(LEAST, asked // 2), True
            raise BusTooSlow.at(str(self._path), str(error)) from None
        if len(found) == self._most and monotonic() - began <= self._deadline_s / 2:
            self._most = min(MOST, 2 * self._most)
        return found

    def _in_time(self, job: Callable[[], T]) -> T:
        try:
            return self._call(job)
        except TooLate as error:
            raise BusUnreachable.at(str(self._path), str(error)) from None

    def _call(self, job: Callable[[], T]) -> T:
        """Raises TooLate."""
        now = monotonic()
        self._halved = False
        if self._first_until is None:
            self._first_until = now + self._first_s
        return self._aside.call(lambda: self._found(job), max(self._deadline_s, self._first_until - now))

    def _found(self, job: Callable[[], T]) -> T:
        self._find()
        found = job()
        if self._index is None:
            self._index = self._open_index()
        return found

    def _find(self) -> None:
        """See to it that the file that is open is the one that others see."""
        try:
            stat = self._path.stat()
        except OSError as error:
            raise BusUnreachable.at(str(self._path), error.strerror or str(error)) from error
        file, former = (stat.st_dev, stat.st_ino), self._file
        if former not in (None, file):
            self._let_go()
            raise BusReplaced.at(str(self._path), "another file came to its place")
        self._file = file

    def _open_index(self) -> int | None:
        try:
            return os.open(f"{self._path}-shm", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None

    def _let_go(self) -> None:
        self._bus.close()
        if self._index is not None:
            os.close(self._index)  # last: closing a file gives up this process's locks on it, SQLite's too
        self._index = self._file = None
