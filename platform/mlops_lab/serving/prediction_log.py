"""The prediction log: what was answered is written here before it is answered, so that no answer is without its record.

One process writes a directory at a time; any number read it with `read_frames`. A frame is one JSON object with a `kind`:
`predictions` (one request with all its rows, see `predictor.py`) or `feedback` (see `feedback.py`).
"""

import fcntl
import logging
import os
import threading
from collections.abc import Mapping
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

__all__ = ["START", "Damage", "Durability", "Position", "PredictionLog", "drop_segments", "read_frames"]

Durability = Literal["process", "machine"]
"""`process`: a record survives the death of this process. `machine`: also a power cut, for one disk flush per request."""

_log = logging.getLogger(__name__)


class PredictionLog:
    """Appends frames; each is with the operating system (or on the disk, see `Durability`) when `append` returns.

    Opening takes the directory for this process, and cuts off a frame that a killed predecessor left unfinished; the cut bytes
    are kept beside the segment as `<segment>.torn-<offset>` and the event is logged. Safe to call from several threads.
    """

    def __init__(self, directory: Path, *, segment_bytes: int = 8 * 1024 * 1024, durability: Durability = "process") -> None:
        """Open or make the log.

        Args:
            directory: Made when it is missing.
            segment_bytes: A new segment begins once one is this large.
            durability: What a record survives.

        Raises:
            HomeInUse: Another process writes this log.
            LogUnwritable: The directory cannot be written.
            LogDamaged: The last segment is not one of ours.
        """
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._flush = durability == "machine"
        self._mutex = threading.Lock()
        self._trouble: str | None = None
        self._tail_is_torn = False
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._take_directory()
            self._number = max(segment_numbers(directory), default=1)
            self._fd, self._size = self._open_segment(self._number)
        except OSError as error:
            raise LogUnwritable.at(str(directory), str(error)) from error

    @property
    def trouble(self) -> str | None:
        """Why the last append failed; None while the log can be written."""
        return self._trouble

    @property
    def position(self) -> Position:
        """Behind the newest frame."""
        return Position(self._number, self._size)

    def append(self, record: Mapping[str, object]) -> Position:
        """Write one record and return the position behind it.

        Args:
            record: A JSON object; aware datetimes are written in UTC with a Z, NaN as null.

        Raises:
            LogUnwritable: Nothing of it is in the log, so nothing may be answered. The next call tries again.
        """
        content = frame(orjson.dumps(record, option=orjson.OPT_UTC_Z))
        with self._mutex:
            try:
                if self._tail_is_torn:
                    self._cut_tail()
                if self._size >= self._segment_bytes:
                    self._next_segment()
                if os.write(self._fd, content) != len(content):
                    raise OSError("only part of the record was taken, the disk is probably full")
            except OSError as error:
                self._fail(error)
                raise LogUnwritable.at(str(self._directory), str(error)) from error
            self._size += len(content)
            if self._flush:
                self._flush_segment()
            self._trouble = None
            return Position(self._number, self._size)

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
        with self._mutex:
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
        os.close(self._fd)
        self._fd, self._size, self._number = fd, size, self._number + 1

    def _flush_segment(self) -> None:
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            # The whole record is there and a reader may have it already, so it stays: a record without an answer harms nobody.
            self._trouble = str(error)
            raise LogUnwritable.at(str(self._directory), str(error)) from error

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
