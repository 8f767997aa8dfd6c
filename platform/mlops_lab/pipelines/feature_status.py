"""What the stream processor says of itself: one JSON file in the home, for people and for `lab features status`."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class FeatureStatus:
    """How far it is, and how it fares.

    Attributes:
        pid: Its process.
        at_s: When it said so, Unix seconds of wall time.
        started_at_s: When the process began.
        state: `starting`, `working`, `waiting` (for what does not answer), or `stopped`.
        trouble: What it waits for, and what to do; None without.
        watermark_s: Event time up to which facts are in, Unix seconds; 0 before the first.
        offsets: By topic, the offset that each partition has come to.
        lag: By topic, how many events of each partition are not in yet.
        counts: applied, late, too_late, dead, passed_over: since the process began.
        rows: By kind.
        written_at_s: When rows were written last; 0 for never.
        epoch: What tells its writes from another processor's.
        rewritten: How often all rows were written anew, since the process began.
        rewritten_rows: How many they were the last time.
        rewritten_ms: How long that took, in milliseconds.
    """

    pid: int
    at_s: float
    started_at_s: float
    state: str
    trouble: Mapping[str, Any] | None
    watermark_s: int
    offsets: Mapping[str, Sequence[int]]
    lag: Mapping[str, Sequence[int]]
    counts: Mapping[str, int]
    rows: Mapping[str, int]
    written_at_s: float
    epoch: str
    rewritten: int
    rewritten_rows: int
    rewritten_ms: int


def write_status(path: Path, status: FeatureStatus) -> None:
    """Put it in the place of the former one, whole. Raises OSError."""
    beside = path.with_suffix(f".{os.getpid()}.tmp")
    beside.write_text(json.dumps(asdict(status)) + "\n", encoding="utf-8")
    beside.replace(path)


def read_status(path: Path) -> FeatureStatus | None:
    """What was written last; None where there is nothing, or where it is none of ours."""
    try:
        return FeatureStatus(**json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def status_file(home: Path, group: str) -> Path:
    """Where the processor of that consumer group says it."""
    return home / f"{group}.json"
