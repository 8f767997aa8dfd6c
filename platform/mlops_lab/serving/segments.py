"""The bytes of the prediction log: numbered files of frames, which one process appends to while others read.

A segment is `MAGIC` and then frames. A frame is a header (payload length, CRC-32 of the payload, both unsigned 32-bit little
endian) and a payload (one JSON object in UTF-8). Only the last segment may end in a torn frame: the one that was being written.

A log has an id, in the file `id` beside its segments: positions mean something only together with it, since on a new, empty disk the
segments begin at 1 again under the same name of a replica.
"""

import re
import secrets
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import orjson

from mlops_lab.durable import sync_directory, write_durably
from mlops_lab.errors import LogDamaged

MAGIC = b"mlplog1\n"
MAX_PAYLOAD = 64 * 1024 * 1024
_HEADER = struct.Struct("<II")
_NAME = re.compile(r"(\d{12})\.log")
_ID = re.compile(r"[0-9a-f]{16}")


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


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes that cannot be read: one frame that holds no JSON, or all from a broken frame to the end of a finished segment.

    Attributes:
        path: The segment.
        begin: Behind the last frame that could be read.
        size: How many bytes.
        why: What is wrong at `begin`.
    """

    path: Path
    begin: Position
    size: int
    why: str


def log_id(directory: Path) -> str:
    """Which log it is. Empty for one that was begun by a release without ids, and where there is none yet.

    Raises:
        LogDamaged: The file does not hold an id.
    """
    path = directory / "id"
    try:
        said = path.read_text(encoding="ascii", errors="replace").strip()
    except FileNotFoundError:
        return ""
    if not _ID.fullmatch(said):
        raise LogDamaged.at(str(path), 0, "it does not hold the id of a log")
    return said


def ensure_id(directory: Path) -> str:
    """The log's id; a new one, safe on the disk, where no segment is: what comes is another log than the one that was here, if any."""
    if segment_numbers(directory):
        return log_id(directory)
    path, said = directory / "id", secrets.token_hex(8)
    aside = path.with_suffix(".partial")
    write_durably(aside, f"{said}\n".encode("ascii"))
    aside.replace(path)
    for folder in (directory, directory.parent):
        sync_directory(folder)
    return said


def log_name(replica: str, directory: Path) -> str:
    """What a replica's log is called wherever positions in it are noted: its replica's name, and its id if it has one."""
    said = log_id(directory)
    return f"{replica}:{said}" if said else replica


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


def read_frames(
    directory: Path, after: Position = START, until: Position | None = None, on_damage: Callable[[Damage], None] | None = None
) -> Iterator[tuple[Position, dict[str, Any]]]:
    """Read the log in the order it was written, also while its writer appends and while shipped segments are dropped.

    Args:
        directory: The log.
        after: Where an earlier reading stopped; `START` for the beginning.
        until: Last position to yield; None for all that is there. A fixed end makes a reading repeatable.
        on_damage: Hears of what cannot be read, and the reading goes on in the next segment; None stops it there.

    Yields:
        The position behind each frame, and its object. A frame is yielded when all of it is there, never torn.

    Raises:
        LogDamaged: A finished segment does not read to its end, or a frame's payload is not JSON. Only without `on_damage`.
    """
    numbers = segment_numbers(directory)
    for number in numbers:
        if number < after.segment or (until is not None and number > until.segment):
            continue
        path = segment_path(directory, number)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            continue  # dropped since we looked: only what is shipped is
        finished = number != numbers[-1]
        read_to = max(len(MAGIC), after.offset if number == after.segment else 0)
        if len(content) >= len(MAGIC) and not content.startswith(MAGIC):
            if finished or on_damage is None:
                _tell(Damage(path, Position(number, 0), len(content), "it does not begin like a segment of the prediction log"), on_damage)
            continue
        for end, payload in frames_in(content, read_to):
            position = Position(number, end)
            if until is not None and position > until:
                return
            try:
                record = orjson.loads(payload)
            except orjson.JSONDecodeError:
                why = "a frame with the right checksum is not JSON"
                _tell(Damage(path, Position(number, read_to), end - read_to, why), on_damage)
            else:
                yield position, record
            read_to = end
        # A segment is finished once a later one exists, and finished segments end with a whole frame.
        if finished and read_to != len(content):
            left = max(0, len(content) - read_to)
            why = f"{left} bytes do not read as frames" if left else "it is shorter than it was"
            _tell(Damage(path, Position(number, min(read_to, len(content))), left, why), on_damage)


def _tell(damage: Damage, on_damage: Callable[[Damage], None] | None) -> None:
    if on_damage is None:
        raise LogDamaged.at(str(damage.path), damage.begin.offset, damage.why)
    on_damage(damage)


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
        try:
            content = segment_path(directory, number).read_bytes()
        except FileNotFoundError:
            return  # dropped since we looked, and so are those before it
        for end, payload in frames_in(content, len(MAGIC)):
            yield behind + len(content) - end, payload
        behind += len(content)


def drop_segments(directory: Path, before: Position, keep_bytes: int = 0) -> list[Path]:
    """Delete finished segments that lie wholly before a position, once everything in them is safe elsewhere.

    The segment that is written to, and the one the position is in, stay. So do the newest of the others, until they have
    `keep_bytes`. The oldest goes first: whoever dies in between leaves a log without a hole.
    """
    kept = 0
    dropped: list[Path] = []
    for number in reversed([number for number in segment_numbers(directory)[:-1] if number < before.segment]):
        path = segment_path(directory, number)
        if kept >= keep_bytes:
            dropped.insert(0, path)
        else:
            kept += path.stat().st_size
    for path in dropped:
        path.unlink(missing_ok=True)
    return dropped
