"""The service on a machine whose clock is wrong: `python -m mlops_lab.chaos.stepped FILE` serves as ever, but whatever it is told
of wall time is off by the seconds in FILE, which may be written at any moment. The monotonic clock is left alone, as the kernel does.
"""

import sys
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

_LOOK_EVERY_S = 0.02


class _Offset:
    """The seconds in a file, looked up often and cheaply."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._due = 0.0
        self._seconds = 0.0

    def __call__(self) -> float:
        now = time.monotonic()
        if now >= self._due:
            self._due = now + _LOOK_EVERY_S
            with suppress(OSError, ValueError):  # it is written in one step, so this is for a file that is not there yet
                self._seconds = float(self._path.read_text())
        return self._seconds


def step(path: Path, seconds: float) -> None:
    """Set the offset, in one step."""
    fresh = path.with_suffix(".new")
    fresh.write_text(str(seconds))
    fresh.replace(path)


def main() -> int:
    """Bend the clocks, then serve."""
    offset = _Offset(Path(sys.argv[1]))
    real_time, real_ns = time.time, time.time_ns
    time.time = lambda: real_time() + offset()
    time.time_ns = lambda: real_ns() + int(offset() * 1e9)
    from mlops_lab.clock import WallClock

    def now(self: WallClock) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=offset())

    WallClock.now = now  # type: ignore[method-assign]
    from mlops_lab.bootstrap.serve import main as serve  # late: it takes the clocks as they are now

    return serve()


if __name__ == "__main__":
    sys.exit(main())
