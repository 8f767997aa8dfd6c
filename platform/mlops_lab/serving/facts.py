"""Keeps the online features up to date from the bus: facts published before a request count in its answer."""

import logging
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from mlops_lab.errors import BusReplaced, BusUnreachable, MessageUnreadable
from mlops_lab.events import OBSERVATIONS, REFERENCES, Delivery, Topics
from mlops_lab.events.schema import FUTURE_TOLERANCE
from mlops_lab.features import Ask, OnlineFeatures
from mlops_lab.features.view import FeatureRow
from mlops_lab.serving.dependency import Dependency

_CHUNK = 1000
_REFERENCES_EVERY_S = 1.0
_RETRY_AFTER_S = 1.0
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
        self._references = 0
        self._observations = -1  # not started yet
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
                self._observations, self._references = -1, 0  # taking the same facts in again has no effect
            known = isinstance(error, BusUnreachable)
            why = error.what if isinstance(error, BusUnreachable) else f"The facts on the event bus cannot be followed: {error!r}."
            if self.trouble is None:
                _log.error("serving.bus_lost", exc_info=None if known else error, extra={"why": why})
            self.trouble = why
            self._retry_at = time.monotonic() + _RETRY_AFTER_S
            return
        if self.trouble is not None:
            _log.info("serving.bus_found", extra={"applied_facts": self.applied})
            self.trouble, self._retry_at = None, 0.0

    def _look(self) -> None:
        now = time.monotonic()
        before = self._observations
        if before < 0:
            self._start()
        for deliveries, offset in self._behind(OBSERVATIONS, self._observations):
            self._observe(deliveries)
            self._observations = offset
        # After the observations, so that a reference published before one of them is known with it.
        if self._observations != before or now >= self._references_due:
            for deliveries, offset in self._behind(REFERENCES, self._references):
                self._apply(deliveries)
                self._references = offset
            self._references_due = now + _REFERENCES_EVERY_S

    def _start(self) -> None:
        """Read backwards until a whole chunk is older than the window, then take the facts in, oldest first."""
        end, limit = self._bus.head(OBSERVATIONS), datetime.now(UTC) + FUTURE_TOLERANCE
        chunks: list[Sequence[Delivery]] = []
        oldest = None
        at = end
        while at > 0:
            start = max(0, at - _CHUNK)
            chunk: Sequence[Delivery] = [delivery for found, _ in self._behind(OBSERVATIONS, start, at) for delivery in found]
            at = start
            if not chunk:
                continue
            moments = [delivery.message.at for delivery in chunk if delivery.message.at <= limit]
            if moments:
                newest = max(moments)
                oldest = max(newest, _NEVER + self._window) - self._window if oldest is None else oldest
                if newest < oldest:
                    break
            chunks.append(chunk)
        for chunk in reversed(chunks):
            self._observe(chunk)
        self._observations = end
        _log.info("serving.facts_read", extra={"applied_facts": self.applied, "window_h": self._window.total_seconds() / 3600})

    def _behind(self, topic: str, offset: int, until: int | None = None) -> Iterator[tuple[Sequence[Delivery], int]]:
        """Messages behind an offset, up to another one or to the end, each time with the offset that is reached. What is no message is
        left out."""
        while until is None or offset < until:
            deliveries: Sequence[Delivery] = ()
            try:
                deliveries = self._bus.read(topic, offset, _CHUNK if until is None else until - offset)
                if not deliveries:
                    return
                offset = deliveries[-1].offset
            except MessageUnreadable as error:
                self.refused += 1
                offset = error.offset
                _log.error("serving.fact_unreadable", extra={"topic": topic, "offset": offset, "why": error.what})
            yield deliveries, offset

    def _observe(self, deliveries: Sequence[Delivery]) -> None:
        """Take in facts that have a place in time. One from the future is left out: it would make those of the present old at once."""
        limit = datetime.now(UTC) + FUTURE_TOLERANCE
        present = [delivery for delivery in deliveries if delivery.message.at <= limit]
        if len(present) < len(deliveries):
            self.refused += len(deliveries) - len(present)
            _log.error("serving.facts_from_the_future", extra={"facts": len(deliveries) - len(present), "limit": limit.isoformat()})
        self._apply(present)
        if present:
            newest = max(delivery.message.at for delivery in present)
            if newest > self._newest:
                self._newest, self.watermark_s = newest, int((newest - self._lateness).timestamp())

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
