"""How far a log is shipped, as its shipper notes it beside the log, and what still waits. Reads and writes small files only."""

import json
from pathlib import Path

from mlops_lab.errors import LogDamaged, StoreUnreachable
from mlops_lab.serving.segments import MAGIC, START, Position, log_id, segment_numbers, segment_path


def shipped_to(folder: Path) -> Position:
    """The position up to which every effect of a log is where it belongs; the beginning where nobody knows, or knows of another log."""
    try:
        return noted(folder)
    except (OSError, LogDamaged):
        return START  # all is read again, and what is known is skipped


def remember_shipped(folder: Path, log: str, position: Position) -> None:
    """Write it down for the log with this id, whole or not at all. Raises StoreUnreachable where the disk refuses."""
    path = _path(folder)
    aside = path.with_suffix(".partial")
    note = {"position": position.number} | ({"log": log} if log else {})
    try:
        aside.write_text(json.dumps(note) + "\n", encoding="utf-8")
        aside.replace(path)
    except OSError as error:
        raise StoreUnreachable.at(str(path), str(error)) from error


def noted(folder: Path) -> Position:
    """As `shipped_to`, for who must not take for unshipped what is only unknown.

    Raises:
        OSError: The note is there and cannot be read.
        LogDamaged: It is not known which log this is.
    """
    try:
        note = json.loads(_path(folder).read_text(encoding="utf-8"))
        return Position.of(int(note["position"])) if note.get("log", "") == log_id(folder) else START
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return START


def unshipped_bytes(folder: Path, shipped: Position) -> int:
    """What lies behind a position. Raises OSError where the folder cannot be read."""
    unshipped = 0
    for number in segment_numbers(folder):
        if number >= shipped.segment:
            behind = shipped.offset if number == shipped.segment else len(MAGIC)
            unshipped += max(0, size_of(segment_path(folder, number)) - behind)
    return unshipped


def all_bytes(folder: Path) -> int:
    """All segments together, shipped or not. Raises OSError where the folder cannot be read."""
    return sum(size_of(segment_path(folder, number)) for number in segment_numbers(folder))


def size_of(path: Path) -> int:
    """0 for a file that is gone."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _path(folder: Path) -> Path:
    return folder.parent / "shipped.json"
