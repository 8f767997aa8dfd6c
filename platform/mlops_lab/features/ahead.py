"""Which events lie so far ahead of their partition that they would let time run ahead for all others."""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from mlops_lab.clock import iso
from mlops_lab.errors import EventRefused
from mlops_lab.events import Delivery, Message

AHEAD = timedelta(hours=11)
"""How far one event may bring a partition forward in event time: as far as a fact may be behind and still count, so that whatever it is,
no fact of the present is too late after it."""


class Leap:
    """Watches one partition.

    Time does leap: a replay goes on with another month, a feed was away for a week. What tells a leap from a wrong clock is the company: an
    event that is further ahead counts if one of another id, the next behind it or else the last one refused, is as far.
    """

    def __init__(self) -> None:
        self._refused: Message | None = None

    def require(self, message: Message, newest: datetime | None, behind: Iterable[Delivery], is_fact: Callable[[Delivery], bool]) -> None:
        """Raises EventRefused for an event that is ahead alone.

        Args:
            message: The event.
            newest: Event time of the newest one that counted; None for none.
            behind: What lies behind it, as far as it is at hand.
            is_fact: Whether a delivery says anything about time.
        """
        if newest is not None and message.at - newest <= AHEAD:
            self._refused = None
            return
        company = next((each.message.at for each in behind if each.message.id != message.id and is_fact(each)), None)
        alone = message.at - company > AHEAD if company is not None else newest is not None and not self._is_with(message)
        if alone:
            self._refused = message
            raise _alone(message, newest or company)

    def _is_with(self, message: Message) -> bool:
        before = self._refused
        return before is not None and before.id != message.id and abs(before.at - message.at) <= AHEAD


def _alone(message: Message, others: datetime | None) -> EventRefused:
    assert others is not None, "nothing is ahead of nothing"
    why = f"its time is {iso(message.at)}, and its partition has come to {iso(others)}"
    hint = "set the clock of its sender right; where time did leap, `lab events dead --retry` publishes it again."
    return EventRefused.of(message.type, message.id, "from_the_future", "time", why, hint)
