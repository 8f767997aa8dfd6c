"""Wall time as a port. Event time is never read from a clock: it is an argument, taken from the data."""

from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Where wall time comes from. Audit entries, leases and latencies use it; windows and ages never do."""

    def now(self) -> datetime:
        """The present moment, aware, in UTC."""
        ...


class WallClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)


class FixedClock:
    """A clock that stands still until it is told otherwise, for tests and labs."""

    def __init__(self, at: datetime) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at


def iso(at: datetime) -> str:
    """An aware moment as ISO 8601 in UTC with a trailing Z: the one way times are written in stores and events."""
    if at.tzinfo is None:
        raise ValueError(f"{at!r} has no time zone: the platform keeps aware times only")
    text = at.isoformat() if at.tzinfo is UTC else at.astimezone(UTC).isoformat()
    return text[:-6] + "Z"  # in UTC the offset is always +00:00


def from_iso(text: str) -> datetime:
    """The inverse of `iso`. Raises ValueError, for a text without a time zone and for a moment that UTC has no year for too."""
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"'{text}' has no time zone: write it with Z or an offset")
    try:
        return at if at.tzinfo is UTC else at.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"'{text}' lies outside of the years 1 to 9999 in UTC") from error
