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

from mlops_lab.durable import sync_directory
from mlops_lab.errors import HomeInUse, LogDamaged, LogUnwritable
from mlops_lab.serving.segments import (
    MAGIC,
    START,
    Damage,
    Position,
    drop_segments,
    ensure_id,
    frame,
    frames_in,
    read_frames,
    segment_numbers,
    segment_path,
)
from mlops_lab.serving.shipped import shipped_to

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
    are kept beside the segment as `<segment>.torn-<offset>` and the event is logged. The first frame after it begins a new segment,
    since a power cut may have taken the end of the last one, which was shipped already. So a position never means two frames.
    Safe to call from several threads.
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
        self._flush_trouble: str | None = None
        self._ended = True  # nothing more may be written to the segment: the next frame begins another
        self._lost = 0  # the number of the last segment whose flush failed
        self._failed_flushes = 0  # without a good one in between
        self._wait_until = 0.0
        self._unflushed: list[tuple[int, int]] = []  # number and descriptor of ended segments
        self._unnamed = False  # whether the disk may not know yet of the newest segment's name
        self._look_again_at = 0.0
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._take_directory()
            try:
                self._id = ensure_id(directory)
                self._fd: int | None = None
                self._number, self._size = self._last_segment()
                self._finished_bytes = self._measure()
            except BaseException:
                os.close(self._lock)
                raise
        except OSError as error:
            raise LogUnwritable.at(str(directory), str(error)) from error

    @property
    def directory(self) -> Path:
        return self._directory

    @property
    def id(self) -> str:
        """See `log_id`."""
        return self._id

    @property
    def trouble(self) -> str | None:
        """Why the last append or flush failed; None while the log can be written."""
        return self._trouble or self._flush_trouble

    @property
    def position(self) -> Position:
        """Behind the newest frame."""
        return Position(self._number, self._size)

    @property
    def limit_bytes(self) -> int:
        """At this size of all segments together, shipped ones too, nothing is taken any more."""
        return self._limit_bytes

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
            self.sync(position)
        return position

    def write(self, frames: Sequence[bytes]) -> Position:
        """Write frames (see `encode`) with one call to the operating system; the disk is not waited for.

        Raises:
            LogUnwritable: Nothing of them may be answered. The next call tries again. Some of them may be in the log, whole: a reader
                may have them already, and a record without an answer harms nobody.
        """
        content = frames[0] if len(frames) == 1 else b"".join(frames)
        with self._mutex:
            try:
                if self._finished_bytes + self._size + len(content) > self._limit_bytes:
                    self._require_room(len(content))
                if self._ended or self._size >= self._segment_bytes:
                    self._next_segment()
                assert self._fd is not None
                try:
                    if os.write(self._fd, content) != len(content):
                        raise OSError("only part of the record was taken, the disk is probably full")
                except OSError:
                    self._end_whole(frames)
                    raise
            except OSError as error:
                if self._trouble is None:
                    _log.error("serving.log_unwritable", extra={"directory": str(self._directory), "why": str(error)})
                self._trouble = str(error)
                raise LogUnwritable.at(str(self._directory), str(error)) from error
            self._size += len(content)
            self._trouble = None
            return Position(self._number, self._size)

    def sync(self, written: Position | None = None) -> None:
        """Flush all that was written before this call to the disk.

        The system tells of a failed flush once, and later flushes of the same file succeed, whatever was lost. So a segment whose flush
        failed is ended, and nothing of it is certain any more, also what was written while that flush ran.

        Args:
            written: Behind the frames that the caller has to be certain of; None for the newest.

        Raises:
            LogUnwritable: It may not be on the disk. The records stay, a reader may have them already: a record without an answer
                harms nobody.
        """
        with self._syncing:
            with self._mutex:
                try:
                    number, open_at_end = self._number, None if self._fd is None else os.dup(self._fd)
                except OSError as error:
                    raise LogUnwritable.at(str(self._directory), str(error)) from error
                ended, self._unflushed = self._unflushed, []
                unnamed, self._unnamed = self._unnamed, False
                written = written or Position(number, self._size)
            failed: tuple[int, OSError] | None = None
            for each, fd in [*ended, (number, open_at_end)]:
                if fd is None:
                    continue
                try:
                    os.fdatasync(fd)
                except OSError as error:
                    failed = (each, error)
                finally:
                    os.close(fd)
            if unnamed:
                try:
                    sync_directory(self._directory)
                except OSError as error:
                    failed = (number, error)
            with self._mutex:
                if failed is not None:
                    self._note_failed_flush(*failed, unnamed=unnamed)
                    raise LogUnwritable.at(str(self._directory), str(failed[1])) from failed[1]
                if written.segment <= self._lost:
                    raise LogUnwritable.at(str(self._directory), self._flush_trouble or "a flush to the disk failed before")
                self._flush_trouble, self._failed_flushes = None, 0

    def check(self) -> None:
        """After a failed append or flush, find out whether the disk takes data again, without writing to the log.

        Raises:
            LogUnwritable: It still does not.
        """
        if self.trouble is None:
            return
        probe = self._directory / "probe"
        try:
            with probe.open("wb") as file:
                file.write(b"\0" * 65536)
                file.flush()
                if self._flush_trouble is not None:
                    os.fdatasync(file.fileno())
            probe.unlink()
        except OSError as error:
            raise LogUnwritable.at(str(self._directory), str(error)) from error
        self._trouble = self._flush_trouble = None

    def close(self) -> None:
        """Flush to the disk and let go of the directory. The log cannot be used afterwards."""
        with self._syncing, self._mutex:
            if self._lock < 0:
                return
            left = [fd for _, fd in self._unflushed] + ([] if self._fd is None else [self._fd])
            lock, self._lock, self._fd, self._unflushed = self._lock, -1, None, []
            self._ended = True  # a late append must fail, not write into whatever gets this number next
            try:
                for fd in left:
                    os.fsync(fd)
            finally:
                for fd in (*left, lock):
                    os.close(fd)

    def _take_directory(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            raise HomeInUse(
                f"Another process writes the prediction log in {self._directory}.", "give each replica its own name, or stop the other one."
            ) from error

    def _last_segment(self) -> tuple[int, int]:
        """Number and size of the segment behind which the next begins; what a killed predecessor left unfinished is put in order."""
        shipped = shipped_to(self._directory).segment
        numbers = segment_numbers(self._directory)
        number = size = 0
        if numbers:
            number = numbers[-1]
            fd, size = self._open_segment(number)
            os.close(fd)
        if self.durability == "disk":  # what its writer could not answer any more may be answered from it: see idempotency
            for each in numbers[-2:]:
                fd = os.open(segment_path(self._directory, each), os.O_RDONLY | os.O_CLOEXEC)
                try:
                    os.fdatasync(fd)
                finally:
                    os.close(fd)
        return (number, size) if number >= shipped else (shipped, 0)

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
        """Nothing is flushed here, since the event loop waits: the next `sync` does that for the segment that ends, too."""
        if self._lock < 0:
            raise OSError("it is closed")
        if time.monotonic() < self._wait_until:
            raise OSError("flushes to the disk failed again and again, the last a moment ago")
        fd, size = self._open_segment(self._number + 1)
        if self._fd is not None:
            if self.durability == "disk" and self._number != self._lost:
                self._unflushed.append((self._number, self._fd))
            else:
                os.close(self._fd)  # whoever is flushing it has a descriptor of his own
        self._fd, self._size, self._number = fd, size, self._number + 1
        self._ended, self._unnamed = False, self.durability == "disk"
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

    def _end_whole(self, frames: Sequence[bytes]) -> None:
        """After a failed write: cut off half a frame, and go on behind the whole ones. A reader may have those already, so that their
        positions must not be given again. Where that fails the segment is ended, and its readers find the damage."""
        assert self._fd is not None
        try:
            taken, end = os.fstat(self._fd).st_size, self._size
            for each in frames:
                if end + len(each) <= taken:
                    end += len(each)
                else:
                    break
            self._size = end
            if taken != end:
                os.ftruncate(self._fd, end)
        except OSError as error:
            _log.error("serving.tail_not_cut", extra={"directory": str(self._directory), "segment": self._number, "why": str(error)})
            self._ended = True

    def _note_failed_flush(self, number: int, error: OSError, *, unnamed: bool) -> None:
        """What is in the segment is not certain any more. The next one begins at once, then at most one a second while none is flushed."""
        if self._flush_trouble is None:
            _log.error("serving.log_not_flushed", extra={"directory": str(self._directory), "segment": number, "why": str(error)})
        self._flush_trouble = str(error)
        self._lost = max(self._lost, number)
        self._unnamed = self._unnamed or unnamed
        if number == self._number:
            self._ended = True
        if self._failed_flushes:
            self._wait_until = time.monotonic() + _LOOK_AGAIN_S
        self._failed_flushes += 1
