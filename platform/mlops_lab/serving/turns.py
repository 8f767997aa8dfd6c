"""What one turn of the event loop brought is worked on together: answered, written to the log at once, flushed, replied to. No HTTP."""

import asyncio
import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Protocol

from mlops_lab.errors import LogUnwritable
from mlops_lab.serving.call import FEEDBACK, PREDICT, Asker, Call, Reply
from mlops_lab.serving.contract import Refusal
from mlops_lab.serving.disk import Disk
from mlops_lab.serving.service import Service

_SHADOW_EVERY_S = 0.05
_SHADOW_PAUSE_S = 0.002
_SWEEP_EVERY_S = 0.5
TURN_BYTES = 256 * 1024
"""Of bodies worked on at a time, some 1,500 rows: about a fiftieth of a second."""

_log = logging.getLogger(__name__)


class Connection(Protocol):
    """One caller's connection."""

    def sweep(self, now: float) -> None:
        """End what takes too long, as of `monotonic`."""
        ...


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What one caller may take up.

    Attributes:
        body_bytes: Of a request; more is 413.
        head_bytes: Of a request's line and headers together; more is 431.
        headers: Of a request; more is 431.
        head_s: From a request's first byte to the end of its headers; later is 408.
        body_s: From the end of its headers to its last byte; later is 408.
        idle_s: Without a request, until a connection is closed.
        connections: At once; one more is 429.
        waiting: Requests that may wait for their turn; one more is 429.
        waiting_bytes: Of their bodies; more is 429.
        drain_s: After SIGTERM, how long an idle connection stays open for a request that is on its way.
    """

    body_bytes: int = 1024 * 1024
    head_bytes: int = 16 * 1024
    headers: int = 64
    head_s: float = 5.0
    body_s: float = 10.0
    idle_s: float = 30.0
    connections: int = 1024
    waiting: int = 256
    waiting_bytes: int = 8 * 1024 * 1024
    drain_s: float = 1.0


class Turns:
    """Collects the requests of one turn of the event loop and works on them together, up to `TURN_BYTES` of bodies at a time, so that
    probes and small requests get their turn between large ones.

    With `durability=disk` a thread flushes the log while the loop goes on collecting; replies leave in the order of their flush.
    """

    def __init__(self, service: Service, limits: ConnectionLimits) -> None:
        self.service = service
        self.limits = limits
        self.routes: Mapping[bytes, str] = {b"/v1/predict": PREDICT, b"/v1/feedback": FEEDBACK}
        self.draining = False
        self.connections: set[Connection] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: deque[tuple[Call, Asker]] = deque()
        self._bytes = 0
        self._due = False
        self._shadow_due = False
        self._disk: Disk | None = None
        full = Refusal(429, "Too many requests", "The queue is full. Come back after Retry-After seconds.", retry_after_s=1)
        self._full = service.refuse("other", full, None)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Called once the event loop runs."""
        self._loop = loop
        if self.service.waits_for_disk:
            self._disk = Disk(self.service.parts.log.sync, loop, self._flushed)

    def stop(self) -> None:
        """Flush and answer what is under way."""
        if self._disk is not None:
            self._disk.stop()

    def add(self, call: Call, asker: Asker) -> None:
        """Take a request in, or tell at once that the queue is full."""
        waiting = len(self._waiting) + (self._disk.waiting if self._disk else 0)
        size = len(call.body)
        if waiting >= self.limits.waiting or (self._bytes and self._bytes + size > self.limits.waiting_bytes):
            self.service.counts.turned_away["queue"] += 1
            self.service.counts.replies[call.route, self._full.status] += 1
            asker.reply(self._full)
            return
        self._waiting.append((call, asker))
        self._bytes += size
        if not self._due:
            self._due = True
            assert self._loop is not None
            self._loop.call_soon(self._work)

    async def answer(self, call: Call) -> Reply:
        """The reply to a request that came by ASGI."""
        asker = _Awaited()
        self.add(call, asker)
        return await asker.future

    def _work(self) -> None:
        calls: list[Call] = []
        askers: list[Asker] = []
        size = 0
        while self._waiting and (not calls or size + len(self._waiting[0][0].body) <= TURN_BYTES):
            call, asker = self._waiting.popleft()
            size += len(call.body)
            calls.append(call)
            askers.append(asker)
        self._bytes -= size
        self._due = bool(self._waiting)
        assert self._loop is not None
        if self._due:
            self._loop.call_soon(self._work)
        self.service.work(calls)
        if self._disk is not None and any(call.logged for call in calls):
            self._disk.flush(calls, askers)
        else:
            self._flushed(calls, askers, None)
        if not self._shadow_due and self.service.parts.predictor.shadow.waits:
            self._shadow_due = True
            self._loop.call_later(_SHADOW_EVERY_S, self._shadow)

    def _flushed(self, calls: list[Call], askers: list[Asker], error: LogUnwritable | None) -> None:
        self.service.settle(calls, error)
        for call, asker in zip(calls, askers, strict=True):
            assert call.reply is not None
            try:
                asker.reply(call.reply)
            except Exception:  # what is wrong with one caller must not keep the others waiting
                _log.exception("serving.reply_failed", extra={"request_id": call.request_id})
                asker.drop()

    async def keep_limits(self) -> None:
        """Keep the time limits of all connections; runs beside the server."""
        while True:
            await asyncio.sleep(_SWEEP_EVERY_S)
            now = monotonic()
            for connection in list(self.connections):
                try:
                    connection.sweep(now)
                except Exception:
                    _log.exception("serving.sweep_failed")

    def _shadow(self) -> None:
        """A slice of the shadow's work between two turns; what is left gets another slice."""
        self.service.shadow()
        self._shadow_due = self.service.parts.predictor.shadow.waits
        if self._shadow_due:
            assert self._loop is not None
            self._loop.call_later(_SHADOW_PAUSE_S, self._shadow)


class _Awaited:
    """Somebody who awaits a reply."""

    def __init__(self) -> None:
        self.future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

    def reply(self, reply: Reply) -> None:
        if not self.future.done():  # whoever waited may be gone
            self.future.set_result(reply)

    def drop(self) -> None:
        self.future.cancel()
