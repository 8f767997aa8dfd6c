"""One event at a time on its way into the fold: checked, tried three times, else buried, so that those behind it move on."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from mlops_lab.clock import Clock
from mlops_lab.errors import MessageUnreadable, ServiceError
from mlops_lab.events import REFERENCES, Delivery, EventBus
from mlops_lab.events.dead import bury
from mlops_lab.events.schema import EventTypes
from mlops_lab.features.rows import RowState

TRIES = 3
TOO_LATE = timedelta(hours=11)
"""A fact that comes later than this behind the newest of its partition is left out. The rows that it could touch reach 25 hours back, and
36 hours of facts are read again after a restart: a later one could be in a row before a restart and not after it."""

_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(slots=True)
class Counts:
    """What became of events, since the process began.

    Attributes:
        applied: Taken in.
        late: Of those, so many came behind the watermark.
        too_late: Left out, since they came later than any row may still be changed.
        dead: Among the dead letters.
    """

    applied: int = 0
    late: int = 0
    too_late: int = 0
    dead: int = 0


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
        self._newest: dict[tuple[str, int], datetime] = {}
        self._of_all = _NEVER
        self._state: RowState
        self.counts = Counts()

    def begin(self, state: RowState) -> None:
        """Take events into this fold from now on."""
        self._state, self._newest, self._of_all = state, {}, _NEVER

    @property
    def watermark_s(self) -> int:
        """Up to this second of event time all facts are in, but for those that are later than allowed; 0 before the first."""
        return 0 if self._of_all == _NEVER else int((self._of_all - self._lateness).timestamp())

    def again(self, topic: str, delivery: Delivery) -> None:
        """Take in what was taken in before a restart. What was buried then is passed over."""
        try:
            self._apply(topic, delivery)
        except Exception:  # as in `take`
            return

    def take(self, topic: str, delivery: Delivery) -> None:
        """Take in one event, or bury it.

        Raises:
            BusUnreachable: It could not be buried; nothing happened, take it again.
        """
        began = self._clock.now()
        for attempt in range(1, TRIES + 1):
            try:
                self._apply(topic, delivery, began)
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

    def _apply(self, topic: str, delivery: Delivery, now: datetime | None = None) -> None:
        message = self._types.checked(delivery.message, topic, now)
        at, place = message.at, (topic, delivery.partition)
        newest = self._newest.get(place, _NEVER)
        timed = topic != REFERENCES  # the newest counts, however old
        if timed and newest != _NEVER and at < newest - TOO_LATE:
            self.counts.too_late += now is not None
            return
        self._state.apply((message,))
        if timed:
            if now is not None and self._of_all != _NEVER and at < self._of_all - self._lateness:
                self.counts.late += 1
            if at > newest:
                self._newest[place] = at
                self._of_all = max(self._of_all, at)
        self.counts.applied += now is not None

    def _bury(self, topic: str, found: Delivery | MessageUnreadable, because: Exception, began: datetime) -> None:
        bury(self._bus, topic, found, because, tries=TRIES, first_at=began, at=self._clock.now())
        self.counts.dead += 1
