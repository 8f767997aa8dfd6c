"""How far a replica's log is shipped, and what still waits. Reads files only, so that `lab status` need not open a table."""

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from mlops_lab.bootstrap import Lab
from mlops_lab.clock import from_iso
from mlops_lab.errors import StoreUnreachable
from mlops_lab.serving.prediction_log import START, Position, read_frames
from mlops_lab.serving.segments import MAGIC, segment_numbers, segment_path

_WRITTEN_AT = ("answered_at", "received_at", "scored_at", "at")


@dataclass(frozen=True, slots=True)
class Backlog:
    """One replica's log.

    Attributes:
        replica: Name.
        size_bytes: Of all that lies in the log's folder.
        unshipped_bytes: Behind the last position that is in the tables, on the bus and in the ledger.
        unshipped_since: Wall time of the oldest record among them; None when nothing waits, or when it does not say.
        aside: Files with bytes that could not be read or were cut off.
    """

    replica: str
    size_bytes: int
    unshipped_bytes: int
    unshipped_since: datetime | None
    aside: int


def backlog(lab: Lab) -> list[Backlog]:
    """Every replica's log, also while it is written and shipped."""
    return [_of(replica, folder) for replica, folder in lab.logs_of_replicas]


def shipped_to(folder: Path) -> Position:
    """The position up to which every effect of a log is where it belongs; the beginning where nobody knows."""
    try:
        return Position.of(int(json.loads(_path(folder).read_text(encoding="utf-8"))["position"]))
    except (OSError, ValueError, KeyError, TypeError):
        return START  # all is read again, and what is known is skipped


def remember_shipped(folder: Path, position: Position) -> None:
    """Write it down, whole or not at all. Raises StoreUnreachable where the disk refuses."""
    path = _path(folder)
    aside = path.with_suffix(".partial")
    try:
        aside.write_text(json.dumps({"position": position.number}) + "\n", encoding="utf-8")
        aside.replace(path)
    except OSError as error:
        raise StoreUnreachable.at(str(path), str(error)) from error


def _path(folder: Path) -> Path:
    return folder.parent / "shipped.json"


def _of(replica: str, folder: Path) -> Backlog:
    shipped = shipped_to(folder)
    unshipped = 0
    for number in segment_numbers(folder):
        if number >= shipped.segment:
            behind = shipped.offset if number == shipped.segment else len(MAGIC)
            unshipped += max(0, _size(segment_path(folder, number)) - behind)
    oldest = _oldest(folder, shipped) if unshipped else None
    files = [path for path in folder.iterdir() if path.is_file()]
    aside = sum(1 for path in files if ".log." in path.name)
    return Backlog(replica, sum(map(_size, files)), unshipped, oldest, aside)


def _oldest(folder: Path, shipped: Position) -> datetime | None:
    for _, frame in read_frames(folder, shipped, on_damage=lambda damage: None):
        return _written_at(frame)
    return None


def _written_at(frame: Any) -> datetime | None:
    for name in _WRITTEN_AT:
        try:
            return from_iso(frame[name])
        except (KeyError, ValueError, TypeError):
            continue
    return None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
