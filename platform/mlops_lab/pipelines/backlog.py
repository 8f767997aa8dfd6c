"""How far a replica's log is shipped, and what still waits. Reads files only, so that `lab status` need not open a table."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from mlops_lab.bootstrap import Lab
from mlops_lab.clock import from_iso
from mlops_lab.serving.prediction_log import Position, read_frames
from mlops_lab.serving.shipped import shipped_to, size_of, unshipped_bytes

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


def all_shipped(lab: Lab) -> bool:
    """Whether all that was in the logs when they were looked at is in the tables, on the bus and in the ledger. Raises BusUnreachable."""
    return not any(one.unshipped_bytes for one in backlog(lab)) and not lab.bus.waiting()


def _of(replica: str, folder: Path) -> Backlog:
    shipped = shipped_to(folder)
    unshipped = unshipped_bytes(folder, shipped)
    oldest = _oldest(folder, shipped) if unshipped else None
    files = [path for path in folder.iterdir() if path.is_file()]
    aside = sum(1 for path in files if ".log." in path.name)
    return Backlog(replica, sum(map(size_of, files)), unshipped, oldest, aside)


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
