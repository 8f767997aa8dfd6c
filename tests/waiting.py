"""Waiting for what comes about by itself, instead of for a time."""

import time
from collections.abc import Callable


def until(holds: Callable[[], object], within_s: float = 20.0) -> None:
    """Return as soon as it holds. Raises AssertionError where it does not within so many seconds."""
    ends = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < ends, f"it did not come about within {within_s:g} s"
        time.sleep(0.01)
