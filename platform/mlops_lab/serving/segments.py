"""The bytes of the prediction log: numbered files of frames, which one process appends to while others read.

A segment is `MAGIC` and then frames. A frame is a header (payload length, CRC-32 of the payload, both unsigned 32-bit little
endian) and a payload (one JSON object in UTF-8). Only the last segment may end in a torn frame: the one that was being written.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import orjson

from mlops_lab.errors import LogDamaged

MAGIC = b"mlplog1\n"
MAX_PAYLOAD = 64 * 1024 * 1024
_HEADER = struct.Struct("<II")
_NAME = re.compile(r"(\d{12})\.log")


@dataclass(frozen=True, order=True, slots=True)
class Position:
    """A place between two frames: all before it is done. Ordered as the frames were written.

    Attributes:
        segment: Number of the file, from 1; 0 is before everything.
        offset: Byte behind the last finished frame of that file.
    """

    segment: int
    offset: int

    @property
    def number(self) -> int:
        """The position as one integer below 2^63 that grows with it, for stores that number their transactions."""
        return self.segment << 32 | self.offset

    @classmethod
    def of(cls, number: int) -> "Position":
        """The inverse of `number`."""
        return cls(number >> 32, number & 0xFFFFFFFF)


START = Position(0, 0)


def segment_path(directory: Path, number: int) -> Path:
    """Where a segment lies."""
    return directory / f"{number:012d}.log"


def segment_numbers(directory: Path) -> list[int]:
    """The segments that exist, in order; empty when there is no log yet."""
    if not directory.is_dir():
        return []
    return sorted(int(found.group(1)) for path in directory.iterdir() if (found := _NAME.fullmatch(path.name)))


def frame(payload: bytes) -> bytes:
    """Wrap one payload. Raises ValueError above `MAX_PAYLOAD` bytes: a reader would take it for damage."""
    if len(payload) > MAX_PAYLOAD:
        raise ValueError(f"a frame holds at most {MAX_PAYLOAD} bytes, got {len(payload)}")
    return _HEADER.pack(len(payload), crc32(payload)) + payload


def frames_in(content: bytes, offset: int) -> Iterator[tuple[int, memoryview]]:
    """Walk over whole, undamaged frames.

    Args:
        content: A segment's bytes from its beginning.
        offset: Where a frame starts.

    Yields:
        The offset behind a frame, and its payload. Ends at the first frame that is incomplete or fails its checksum.
    """
    view = memoryview(content)
    while offset + _HEADER.size <= len(view):
        length, checksum = _HEADER.unpack_from(view, offset)
        end = offset + _HEADER.size + length
        # No payload is shorter than `{}`; without this a tail of zeros, as a power cut leaves, would read as empty frames.
        if not 2 <= length <= MAX_PAYLOAD or end > len(view):
            return
        payload = view[offset + _HEADER.size : end]
        if crc32(payload) != checksum:
            return
        yield end, payload
        offset = end


def read_frames(directory: Path, after: Position = START, until: Position | None = None) -> Iterator[tuple[Position, dict[str, Any]]]:
    """Read the log in the order it was written, also while its writer appends.

    Args:
        directory: The log.
        after: Where an earlier reading stopped; `START` for the beginning.
        until: Last position to yield; None for all that is there. A fixed end makes a reading repeatable.

    Yields:
        The position behind each frame, and its object. A frame is yielded when all of it is there, never torn.

    Raises:
        LogDamaged: A finished segment does not read to its end, or a frame's payload is not JSON.
    """
    numbers = segment_numbers(directory)
    for number in numbers:
        if number < after.segment or (until is not None and number > until.segment):
            continue
        path = segment_path(directory, number)
        content = path.read_bytes()
        read_to = max(len(MAGIC), after.offset if number == after.segment else 0)
        if len(content) >= len(MAGIC) and not content.startswith(MAGIC):
            raise LogDamaged.at(str(path), 0, "it does not begin like a segment of the prediction log")
        for end, payload in frames_in(content, read_to):
            read_to = end
            position = Position(number, end)
            if until is not None and position > until:
                return
            try:
                yield position, orjson.loads(payload)
            except orjson.JSONDecodeError as error:
                raise LogDamaged.at(str(path), end, "a frame with the right checksum is not JSON") from error
        # A segment is finished once a later one exists, and finished segments end with a whole frame.
        if number != numbers[-1] and read_to != len(content):
            raise LogDamaged.at(str(path), read_to, f"{len(content) - read_to} bytes do not read as frames")


def recent_payloads(directory: Path, log_bytes: int) -> Iterator[tuple[int, memoryview]]:
    """The newest part of the log, for a start.

    Args:
        directory: The log.
        log_bytes: How far back, in bytes; whole segments are read, so a little more may come.

    Yields:
        How many bytes lie behind a frame, and its payload; segments the newest first, frames of one in order.
    """
    behind = 0
    for number in reversed(segment_numbers(directory)):
        if behind > log_bytes:
            return
        content = segment_path(directory, number).read_bytes()
        for end, payload in frames_in(content, len(MAGIC)):
            yield behind + len(content) - end, payload
        behind += len(content)


def drop_segments(directory: Path, before: Position) -> list[Path]:
    """Delete finished segments that lie wholly before a position, once everything in them is safe elsewhere.

    The segment that is written to, and the one the position is in, stay.
    """
    dropped = [segment_path(directory, number) for number in segment_numbers(directory)[:-1] if number < before.segment]
    for path in dropped:
        path.unlink()
    return dropped
