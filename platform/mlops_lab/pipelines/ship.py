"""From the replicas' prediction logs into the tables. Cheap to call often; each frame has its effect once."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mlops_lab.bootstrap import Lab
from mlops_lab.serving.prediction_log import Position, read_frames


def ship(lab: Lab) -> int:
    """Move everything that is in the logs of all replicas into the tables; returns the rows that were appended."""
    moved = 0
    for replica, folder in lab.logs_of_replicas:
        shipped = lab.shipper.ship(replica, _frames(folder, lab.shipper.position(replica)))
        moved += shipped.predictions + shipped.outcomes
    return moved


def _frames(folder: Path, after: int) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for position, frame in read_frames(folder, Position.of(after)):
        yield position.number, frame
