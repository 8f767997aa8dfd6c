"""The prediction log: what was answered is written here before it is answered, so that no answer is without its record.

One process writes a directory at a time; any number read it with `read_frames`. A frame is one JSON object with a `kind`:
`predictions` (one request with all its rows, see `predictor.py`) or `feedback` (see `feedback.py`).
"""

import contextlib
import fcntl
import logging
import os
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import orjson

from mlops_lab.errors import HomeInUse, LogDamaged, LogUnwritable
from mlops_lab.serving.segments import (
    MAGIC,
    START,
    Damage,
    Position,
    drop_segments,
    frame,
    frames_in,
    read_frames,
    segment_numbers,
    segment_path,
)

__all__ = ["START", "Damage", "Durability", "Position", "PredictionLog", "drop_segments", "encode", "read_frames"]

Durability = Literal["process", "disk"]
"""`process`: a record survives the death of this process. `disk`: also a power cut, for a disk flush that requests share."""

_LOOK_AGAIN_S = 1.0

_log = logging.getLogger(__name__)


def encode(record: Mapping[str, object]) -> bytes:
    """One record as a frame: a JSON object; aware datetimes are written in UTC with a Z, NaN as null."""
    return frame(orjson.dumps(record, option=orjson.OPT_UTC_Z))


class PredictionLog:
    """Appends frames; each is with the operating system when `append` or `write` returns. For the disk see `sync`.

    Opening takes the directory for this process, and cuts off a frame that a killed predecessor left unfinished; the cut bytes
    are kept beside the segment as `<segment>.torn-<offset>` and the event is logged. Safe to call from several threads.
    """

    def __init__(
        self,
        directory: Path,
        *,
        segment_bytes: int = 8 * 1024 * 1024,
        durability: Durability = "process",
        limit_bytes: int = 4 * 1024 * 1024 * 1024,
    ) -> None:
        """Open or make the log.

        Args:
            directory: Made when it is missing.
            segment_bytes: A new segment begins once one is this large.
            durability: What a record survives.
            limit_bytes: All segments together. When it is reached nothing is taken until shipped ones were dropped.

        Raises:
            HomeInUse: Another process writes this log.
            LogUnwritable: The directory cannot be written.
            LogDamaged: The last segment is not one of ours.
        """
        self.durability: Durability = durability
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._limit_bytes = limit_bytes
        self._mutex = threading.Lock()
        self._syncing = threading.Lock()
        self._trouble: str | None = None
        self._tail_is_torn = False
        self._look_again_at = 0.0
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._take_directory()
            self._number = max(segment_numbers(directory), default=1)
            self._fd, self._size = self._open_segment(self._number)
            self._finished_bytes = self._measure()
        except OSError as error:
            raise LogUnwritable.at(str(directory), str(error)) from error

    @property
    def directory(self) -> Path:
        return self._directory

    @property
    def trouble(self) -> str | None:
        """Why the last append failed; None while the log can be written."""
        return self._trouble

    @property
    def position(self) -> Position:
        """Behind the newest frame."""
        return Position(self._number, self._size)

    @property
    def total_bytes(self) -> int:
        """All segments together, as of the last look at the directory."""
        return self._finished_bytes + self._size

    def append(self, record: Mapping[str, object]) -> Position:
        """Write one record, flush it if `durability` asks for that, and return the position behind it.

        Raises:
            LogUnwritable: It may not be answered. The next call tries again.
        """
        position = self.write([encode(record)])
        if self.durability == "disk":
            self.sync()
        return position

    def write(self, frames: Sequence[bytes]) -> Position:
        """Write frames (see `encode`) with one call to the operating system, all or none; the disk is not waited for.

        Raises:
            LogUnwritable: Nothing of them is in the log, so nothing may be answered. The next call tries again.
        """
        content = frames[0] if len(frames) == 1 else b"".join(frames)
        with self._mutex:
            try:
                if self._tail_is_torn:
                    self._cut_tail()
                if self._size >= self._segment_bytes:
                    self._next_segment()
                if self._finished_bytes + self._size + len(content) > self._limit_bytes:
                    self._require_room(len(content))
                if os.write(self._fd, content) != len(content):
                    raise OSError("only part of the record was taken, the disk is probably full")
            except OSError as error:
                self._fail(error)
                raise LogUnwritable.at(str(self._directory), str(error)) from error
            self._size += len(content)
            self._trouble = None
            return Position(self._number, self._size)

    def sync(self) -> None:
        """Flush all that was written before this call to the disk.

        Raises:
            LogUnwritable: It may not be on the disk. The records stay, a reader may have them already: a record without an answer
                harms nobody.
        """
        with self._syncing:
            try:
                os.fdatasync(self._fd)
            except OSError as error:
                self._trouble = str(error)
                raise LogUnwritable.at(str(self._directory), str(error)) from error

    def check(self) -> None:
        """After a failed append, find out whether the disk takes data again, without writing to the log.

        Raises:
            LogUnwritable: It still does not.
        """
        if self._trouble is None:
            return
        probe = self._directory / "probe"
        try:
            probe.write_bytes(b"\0" * 65536)
            probe.unlink()
        except OSError as error:
            raise LogUnwritable.at(str(self._directory), str(error)) from error
        self._trouble = None

    def close(self) -> None:
        """Flush to the disk and let go of the directory. The log cannot be used afterwards."""
        with self._mutex, self._syncing:
            if self._fd >= 0:
                os.fsync(self._fd)
                os.close(self._fd)
                os.close(self._lock)
                self._fd = -1  # a late append must fail, not write into whatever gets this number next

    def _take_directory(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            raise HomeInUse(
                f"Another process writes the prediction log in {self._directory}.", "give each replica its own name, or stop the other one."
            ) from error

    def _open_segment(self, number: int) -> tuple[int, int]:
        """A file descriptor to append to, and the size of the segment, with a torn tail cut off."""
        path = segment_path(self._directory, number)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            content = path.read_bytes()
            if not content.startswith(MAGIC[: len(content)]):
                raise LogDamaged.at(str(path), 0, "it does not begin like a segment of the prediction log")
            if len(content) < len(MAGIC):
                os.ftruncate(fd, 0)
                if os.write(fd, MAGIC) != len(MAGIC):
                    raise OSError("the disk is probably full")
                if self.durability == "disk":
                    os.fdatasync(fd)
                    _sync_directory(self._directory)
                return fd, len(MAGIC)
            end = max((end for end, _ in frames_in(content, len(MAGIC))), default=len(MAGIC))
            if end < len(content):
                path.with_name(f"{path.name}.torn-{end}").write_bytes(content[end:])
                os.ftruncate(fd, end)
                _log.warning("serving.torn_tail_cut", extra={"segment": path.name, "offset_bytes": end, "cut_bytes": len(content) - end})
            return fd, end
        except BaseException:
            os.close(fd)
            raise

    def _next_segment(self) -> None:
        fd, size = self._open_segment(self._number + 1)
        with self._syncing:  # nobody may be flushing a descriptor that is closed and handed out again
            if self.durability == "disk":
                os.fdatasync(self._fd)
            os.close(self._fd)
            self._fd, self._size, self._number = fd, size, self._number + 1
        self._finished_bytes = self._measure()

    def _measure(self) -> int:
        """Bytes of all segments but the one that is written to."""
        sizes = 0
        for number in segment_numbers(self._directory):
            if number != self._number:
                with contextlib.suppress(FileNotFoundError):  # shipped and dropped meanwhile
                    sizes += segment_path(self._directory, number).stat().st_size
        return sizes

    def _require_room(self, count: int) -> None:
        """Whether shipped segments were dropped meanwhile; looked at once a second, since this is asked for every request."""
        now = time.monotonic()
        if now >= self._look_again_at:
            self._look_again_at = now + _LOOK_AGAIN_S
            self._finished_bytes = self._measure()
        if self.total_bytes + count > self._limit_bytes:
            raise OSError(f"it has reached its limit of {self._limit_bytes} bytes, since shipping is behind (does the watcher run?)")

    def _fail(self, error: OSError) -> None:
        """Take back what a failed write left, now or before the next append: no record may follow half a one."""
        if self._trouble is None:
            _log.error("serving.log_unwritable", extra={"directory": str(self._directory), "why": str(error)})
        self._trouble = str(error)
        self._tail_is_torn = True
        try:
            self._cut_tail()
        except OSError as again:
            self._trouble = f"{error}; and its tail could not be cut: {again}"

    def _cut_tail(self) -> None:
        os.ftruncate(self._fd, self._size)
        self._tail_is_torn = False


def _sync_directory(directory: Path) -> None:
    """Flush that a file is in its directory: a power cut may otherwise leave its content without its name."""
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
