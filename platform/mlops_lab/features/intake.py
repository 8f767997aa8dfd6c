"""One event at a time on its way into the fold: checked, tried three times, else buried, so that those behind it move on."""

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from mlops_lab.clock import Clock
from mlops_lab.errors import EventRefused, MessageUnreadable, ServiceError
from mlops_lab.events import REFERENCES, Delivery, EventBus
from mlops_lab.events.dead import bury
from mlops_lab.events.schema import EventTypes
from mlops_lab.features.ahead import Leap
from mlops_lab.features.rows import RowState

TRIES = 3
TOO_LATE = timedelta(hours=11)
"""A fact that comes later than this behind the newest of its partition is left out. The rows that it could touch reach 25 hours back, and
36 hours of facts are read again after a restart: a later one could be in a row before a restart and not after it."""

Place = tuple[str, int]
"""A topic and the number of one of its partitions."""

_NEVER = datetime.min.replace(tzinfo=UTC)

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Counts:
    """What became of events, since the process began.

    Attributes:
        applied: Taken in.
        late: Of those, so many came behind the watermark.
        too_late: Left out, since they came later than any row may still be changed.
        dead: Among the dead letters.
        passed_over: Not taken in again after a restart: they had been buried, or would have been.
    """

    applied: int = 0
    late: int = 0
    too_late: int = 0
    dead: int = 0
    passed_over: int = 0


class Intake:
    """Takes events into a `RowState`."""

    def __init__(self, bus: EventBus, types: EventTypes, clock: Clock, lateness: timedelta) -> None:
        """Args:
        bus: Where dead letters go.
        types: What events have to be.
        clock: Wall time: what lies behind it by more than five minutes is from the future.
        lateness: How far in event time a fact may be behind the newest one and still count as in time.
        """
        self._bus, self._types, self._clock, self._lateness = bus, types, clock, lateness
        self._newest: dict[Place, datetime] = {}
        self._leaps: dict[Place, Leap] = {}
        self._before = self._complete = _NEVER
        self._state: RowState
        self.counts = Counts()

    def begin(self, state: RowState) -> None:
        """Take events into this fold from now on."""
        self._state, self._newest, self._leaps, self._before, self._complete = state, {}, {}, _NEVER, _NEVER

    @property
    def watermark_s(self) -> int:
        """Up to this second of event time all facts are in, but for those that are later than allowed; 0 before the first."""
        return 0 if self._complete == _NEVER else max(0, int(self._complete.timestamp() - self._lateness.total_seconds()))

    def resume(self, watermark_s: int) -> None:
        """Go on with the facts that are in, from the watermark that was told with them; 0 for none."""
        self._before = max(self._newest.values(), default=_NEVER)
        if watermark_s:
            self._complete = max(self._complete, datetime.fromtimestamp(watermark_s, UTC) + self._lateness)

    def passed(self, places: Iterable[Place], ended: Collection[Place]) -> None:
        """Move the watermark on, after one look at each partition. It never goes back.

        Partitions are read one after the other, and a backlog of one may reach further in event time than that of another. So the one
        that is least far decides. One that had nothing more to read had, at that moment, all that was known before this round.

        Args:
            places: All partitions that hold facts with a time.
            ended: Those of them that had nothing to read.
        """
        reached = min(self._before if place in ended else self._newest.get(place, _NEVER) for place in places)
        self._complete = max(self._complete, reached)
        self._before = max(self._newest.values(), default=_NEVER)

    def would_take(self, topic: str, delivery: Delivery) -> bool:
        """Whether it is what its type says, and of a time that has come."""
        try:
            self._types.checked(delivery.message, topic, self._clock.now())
        except EventRefused:
            return False
        return True

    def again(self, topic: str, deliveries: Sequence[Delivery]) -> None:
        """Take in what was taken in before a restart. What was buried then is passed over; one from the future, as long as it is that."""
        for number, delivery in enumerate(deliveries, 1):
            try:
                self._apply(topic, delivery, deliveries[number:], self._clock.now(), counted=False)
            except ServiceError:
                raise
            except Exception as error:  # as in `take`
                self.counts.passed_over += 1
                place = {"topic": topic, "partition": delivery.partition, "offset": delivery.offset}
                _log.warning("features.passed_over", extra=place | {"id": delivery.message.id, "why": str(error)})

    def take(self, topic: str, delivery: Delivery, behind: Sequence[Delivery] = ()) -> None:
        """Take in one event, or bury it.

        Args:
            topic: Where it was read.
            delivery: The event.
            behind: What lies behind it in its partition, as far as it is at hand.

        Raises:
            BusUnreachable: It could not be buried; nothing happened, take it again.
        """
        began = self._clock.now()
        for attempt in range(1, TRIES + 1):
            try:
                self._apply(topic, delivery, behind, began, counted=True)
                return
            except ServiceError:
                raise  # not the event's fault
            except Exception as error:  # whatever an event makes the fold do, those behind it are not to suffer
                if attempt == TRIES:
                    self._bury(topic, delivery, error, began)

    def bury_unreadable(self, topic: str, read_again: Callable[[], object], error: MessageUnreadable) -> None:
        """Bury what is no message, if it still is none when it is read again.

        Raises:
            BusUnreachable: It could not be buried.
        """
        began = self._clock.now()
        for _ in range(TRIES - 1):
            try:
                read_again()
                return
            except MessageUnreadable as still:
                error = still
        self._bury(topic, error, error, began)

    def _apply(self, topic: str, delivery: Delivery, behind: Sequence[Delivery], now: datetime, *, counted: bool) -> None:
        message = self._types.checked(delivery.message, topic, now)
        at, place = message.at, (topic, delivery.partition)
        timed = topic != REFERENCES  # the newest counts, however old
        newest = self._newest.get(place, _NEVER)
        if timed:
            leap = self._leaps.setdefault(place, Leap())
            leap.require(message, self._newest.get(place), behind, lambda each: self.would_take(topic, each))
            if newest - at > TOO_LATE:
                self.counts.too_late += counted
                return
        self._state.apply((message,))
        if timed:
            known = max(self._complete, newest)
            self.counts.late += counted and known - at > self._lateness
            self._newest[place] = max(newest, at)
        self.counts.applied += counted

    def _bury(self, topic: str, found: Delivery | MessageUnreadable, because: Exception, began: datetime) -> None:
        bury(self._bus, topic, found, because, tries=TRIES, first_at=began, at=self._clock.now())
        self.counts.dead += 1
