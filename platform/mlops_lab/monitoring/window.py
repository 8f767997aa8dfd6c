"""A window of event time: one ISO week, closed some hours later so that most labels have arrived."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

LABEL_GRACE = timedelta(hours=12)
"""How long after its end a window waits for labels. 97 % of the flights of a Sunday evening have landed by then."""


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """Half-open span [start, end) of event time, aware, UTC. A prediction belongs to the window of its moment."""

    start: datetime
    end: datetime

    @property
    def id(self) -> str:
        """The ISO week, such as `2013-W14`."""
        year, week, _ = self.start.isocalendar()
        return f"{year}-W{week:02d}"

    @property
    def closes_at(self) -> datetime:
        """Event time at which the window is judged: labels that arrived up to here count for it."""
        return self.end + LABEL_GRACE

    def before(self, weeks: int = 1) -> "Window":
        """The window that many weeks earlier."""
        return Window(self.start - timedelta(weeks=weeks), self.end - timedelta(weeks=weeks))

    @classmethod
    def of_week(cls, name: str) -> "Window":
        """The window called `2013-W14`. Raises ValueError where the text is no ISO week."""
        year, _, week = name.partition("-W")
        return cls.starting(date.fromisocalendar(int(year), int(week), 1))

    @classmethod
    def containing(cls, at: datetime) -> "Window":
        """The window that holds a moment."""
        day = at.astimezone(UTC).date()
        return cls.starting(day - timedelta(days=day.weekday()))

    @classmethod
    def starting(cls, monday: date) -> "Window":
        start = datetime(monday.year, monday.month, monday.day, tzinfo=UTC)
        return cls(start, start + timedelta(weeks=1))
