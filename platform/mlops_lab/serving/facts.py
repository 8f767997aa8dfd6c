"""Keeps the online features up to date from the bus: facts published before a request count in its answer."""

import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from mlops_lab.errors import BusReplaced, BusTooSlow, BusUnreachable, EventRefused
from mlops_lab.events import OBSERVATIONS, REFERENCES, Delivery, Topics
from mlops_lab.events.schema import FUTURE_TOLERANCE
from mlops_lab.features import Ask, OnlineFeatures
from mlops_lab.features.ahead import Leap
from mlops_lab.features.stream import Recent, Stretch, onwards
from mlops_lab.features.view import FeatureRow
from mlops_lab.serving.dependency import Dependency

_REFERENCES_EVERY_S = 1.0
_RETRY_AFTER_S = 1.0
_RETRY_SOON_S = 0.05
"""A bus that is asked for less the next time."""
_NEVER = datetime.min.replace(tzinfo=UTC)

_log = logging.getLogger(__name__)


class FactStream:
    """Implements `FeatureSource`: follows the two topics of facts. Used from one thread only, the one that answers.

    While the bus is down, answers go on with the facts that are there: their ages grow and say so.
    """

    def __init__(
        self,
        bus: Topics,
        online: OnlineFeatures,
        *,
        window: timedelta = timedelta(hours=36),
        lateness: timedelta = timedelta(minutes=10),
    ) -> None:
        """Args:
        bus: Where facts travel.
        online: Takes them in.
        window: Event time to go back on start; what features look further back than this is missing after a restart.
        lateness: How far behind the newest fact another may come and still be in time.
        """
        self._bus = bus
        self._online = online
        self._window = window
        self._lateness = lateness
        self._newest = _NEVER
        self._leap = Leap()
        self._references = 0
        self._observations = -1  # not started yet
        self._recent: tuple[int, Recent] | None = None
        self._references_due = 0.0
        self._retry_at = 0.0
        self.trouble: str | None = None
        self.watermark_s: int | None = None
        self.applied = 0
        self.refused = 0

    @property
    def started(self) -> bool:
        """Whether the facts of the window are in."""
        return self._observations >= 0

    def read_many(self, asks: Sequence[Ask]) -> Sequence[FeatureRow]:
        self.catch_up()
        return self._online.read_many(asks)

    def dependency(self) -> Dependency:
        """The bus, `ok` or `down`."""
        return Dependency("bus", "down" if self.trouble else "ok", self.trouble or "", {"applied": self.applied, "refused": self.refused})

    def catch_up(self) -> None:
        """Take in all facts published so far. One short query when there are none; never raises for a bus that is down or damaged."""
        if self._retry_at and time.monotonic() < self._retry_at:
            return
        try:
            self._look()
        except Exception as error:
            if isinstance(error, BusReplaced):
                self._observations, self._references, self._recent = -1, 0, None  # taking the same facts in again has no effect
            known = isinstance(error, BusUnreachable)
            why = error.what if isinstance(error, BusUnreachable) else f"The facts on the event bus cannot be followed: {error!r}."
            if self.trouble is None:
                _log.error("serving.bus_lost", exc_info=None if known else error, extra={"why": why})
            self.trouble = why
            self._retry_at = time.monotonic() + (_RETRY_SOON_S if isinstance(error, BusTooSlow) else _RETRY_AFTER_S)
            return
        if self.trouble is not None:
            _log.info("serving.bus_found", extra={"applied_facts": self.applied})
            self.trouble, self._retry_at = None, 0.0

    def _look(self) -> None:
        now = time.monotonic()
        before = self._observations
        if before < 0:
            self._start()
        for stretch in onwards(self._bus, OBSERVATIONS, self._observations):
            self._observe(stretch)
            self._observations = stretch.offset
        # After the observations, so that a reference published before one of them is known with it.
        if self._observations != before or now >= self._references_due:
            for stretch in onwards(self._bus, REFERENCES, self._references):
                self._apply(self._readable(REFERENCES, stretch))
                self._references = stretch.offset
            self._references_due = now + _REFERENCES_EVERY_S

    def _start(self) -> None:
        """Take in the facts of the window, oldest first. A bus that fails meanwhile is asked for the rest only."""
        if self._recent is None:
            end, limit = self._bus.head(OBSERVATIONS), datetime.now(UTC) + FUTURE_TOLERANCE
            self._recent = end, Recent(self._bus, OBSERVATIONS, end, self._window, counts=lambda delivery: delivery.message.at <= limit)
        end, recent = self._recent
        for stretch in recent.read():
            self._observe(stretch)
        self._observations, self._recent = end, None
        _log.info("serving.facts_read", extra={"applied_facts": self.applied, "window_h": self._window.total_seconds() / 3600})

    def _readable(self, topic: str, stretch: Stretch) -> Sequence[Delivery]:
        """What is no message is left out."""
        if stretch.unreadable is not None:
            self.refused += 1
            _log.error("serving.fact_unreadable", extra={"topic": topic, "offset": stretch.offset, "why": stretch.unreadable.what})
        return stretch.deliveries

    def _observe(self, stretch: Stretch) -> None:
        """Take in facts that have a place in time. One from the future is left out, and one that is ahead of all others alone: it would
        make those of the present old at once."""
        limit = datetime.now(UTC) + FUTURE_TOLERANCE
        deliveries = self._readable(OBSERVATIONS, stretch)
        present = [delivery for delivery in deliveries if delivery.message.at <= limit]
        if len(present) < len(deliveries):
            self.refused += len(deliveries) - len(present)
            _log.error("serving.facts_from_the_future", extra={"facts": len(deliveries) - len(present), "limit": limit.isoformat()})
        before = self._newest
        self._apply([delivery for number, delivery in enumerate(present, 1) if self._is_in_company(delivery, present[number:])])
        if self._newest > before:
            self.watermark_s = int((self._newest - self._lateness).timestamp())

    def _is_in_company(self, delivery: Delivery, behind: Sequence[Delivery]) -> bool:
        """See `Leap`. One that is takes the newest moment along."""
        newest = None if self._newest == _NEVER else self._newest
        try:
            self._leap.require(delivery.message, newest, behind, lambda each: True)
        except EventRefused as error:
            self.refused += 1
            _log.error("serving.fact_ahead", extra={"offset": delivery.offset, "why": error.what})
            return False
        self._newest = max(self._newest, delivery.message.at)
        return True

    def _apply(self, deliveries: Sequence[Delivery]) -> None:
        """Take facts in; one that cannot be understood is logged and left out, it must not stop all later ones."""
        try:
            self._online.apply(delivery.message for delivery in deliveries)
            self.applied += len(deliveries)
        except Exception:
            for delivery in deliveries:  # again one by one: the same fact twice has the effect of once
                try:
                    self._online.apply((delivery.message,))
                    self.applied += 1
                except Exception:
                    self.refused += 1
                    _log.exception("serving.fact_refused", extra={"offset": delivery.offset, "type": delivery.message.type})
