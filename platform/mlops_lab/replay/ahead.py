"""The next stretch of a replay, made ready in a thread while event time is held."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

from mlops_lab.flights.timeline import Step, Timeline

_POOL = ThreadPoolExecutor(max_workers=1, thread_name_prefix="replay-ahead")


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps of one span of one timeline, being made."""

    timeline: Timeline
    after: datetime
    until: datetime
    plans: bool
    made: "Future[list[Step]]"

    @classmethod
    def ahead(cls, timeline: Timeline, after: datetime, until: datetime, plans: bool = False) -> "Steps":
        """Begin to make the steps in (after, until], with plans or without."""
        return cls(timeline, after, until, plans, _POOL.submit(lambda: list(timeline.steps(after, until, plans=plans))))


@dataclass(frozen=True, slots=True)
class Prepared:
    """A timeline that hands out what was made ready, if it was made from this very timeline for this very span."""

    timeline: Timeline
    steps_ahead: Steps | None
    plans: bool = False

    def steps(self, after: datetime, until: datetime) -> Iterator[Step]:
        """The steps in (after, until], in order of time."""
        ready = self.steps_ahead
        if ready is not None and ready.timeline is self.timeline and (ready.after, ready.until, ready.plans) == (after, until, self.plans):
            return iter(ready.made.result())
        return self.timeline.steps(after, until, plans=self.plans)
