"""The way of a busy request through uvicorn: read, worked on together with what else came in, answered, without a task for each.

uvicorn keeps what it is good at: listening, parsing HTTP/1.1 with httptools, shutting down, and every other route by ASGI. The two
routes that carry the traffic leave it behind the parser: their bodies are collected, all requests that one turn of the event loop
brought are handed to the service at once, and the replies are written straight to the connections. The limits of a connection are kept
here as well, for all routes.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from mlops_lab.errors import LogUnwritable
from mlops_lab.serving.contract import Refusal
from mlops_lab.serving.service import Call, Reply, Service

_SHADOW_EVERY_S = 0.05
_SWEEP_EVERY_S = 0.5
_MOST_PIPELINED = 32
_LINGER_S = 1.0

_log = logging.getLogger(__name__)


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
    drain_s: float = 1.0


class _Busy:
    """Stands where uvicorn keeps the request under way, so that it queues behind ours what is pipelined, and waits for us at the end."""

    __slots__ = ("disconnected", "keep_alive", "message_event", "response_complete", "waiting")

    def __init__(self) -> None:
        self.disconnected = False
        self.keep_alive = True
        self.message_event = asyncio.Event()
        self.response_complete = True
        self.waiting = 0


class Turns:
    """Collects the requests of one turn of the event loop and works on them together.

    With `durability=disk` a thread flushes the log while the loop goes on collecting; replies leave in the order of their flush.
    """

    def __init__(self, service: Service, limits: ConnectionLimits) -> None:
        self.service = service
        self.limits = limits
        self.routes: Mapping[bytes, str] = {b"/v1/predict": "predict", b"/v1/feedback": "feedback"}
        self.draining = False
        self.connections: set[FastProtocol] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._calls: list[Call] = []
        self._from: list[FastProtocol] = []
        self._due = False
        self._shadow_due = False
        self._disk: _Disk | None = None
        full = Refusal(429, "Too many requests", "The queue is full. Come back after Retry-After seconds.", retry_after_s=1)
        self._full = service.refuse("other", full, None)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Called once the event loop runs."""
        self._loop = loop
        if self.service.waits_for_disk:
            self._disk = _Disk(self.service.parts.log.sync, loop, self._flushed)

    def stop(self) -> None:
        """Flush and answer what is under way."""
        if self._disk is not None:
            self._disk.stop()

    @property
    def waiting(self) -> int:
        """Requests that wait for their turn or for the disk."""
        return len(self._calls) + (self._disk.waiting if self._disk else 0)

    def add(self, call: Call, protocol: "FastProtocol") -> bool:
        """Take a request in; False where the queue is full."""
        if self.waiting >= self.limits.waiting:
            self.service.counts.turned_away["queue"] += 1
            return False
        self._calls.append(call)
        self._from.append(protocol)
        if not self._due:
            self._due = True
            assert self._loop is not None
            self._loop.call_soon(self._work)
        return True

    @property
    def full(self) -> Reply:
        """What a request gets that met a full queue."""
        return self._full

    def _work(self) -> None:
        calls, protocols = self._calls, self._from
        self._calls, self._from, self._due = [], [], False
        service = self.service
        service.work(calls)
        if self._disk is not None and any(call.logged for call in calls):
            self._disk.flush(calls, protocols)
        else:
            self._flushed(calls, protocols, None)
        if not self._shadow_due and service.parts.predictor.shadow_waits:
            self._shadow_due = True
            assert self._loop is not None
            self._loop.call_later(_SHADOW_EVERY_S, self._shadow)

    def _flushed(self, calls: list[Call], protocols: "list[FastProtocol]", error: LogUnwritable | None) -> None:
        self.service.settle(calls, error)
        for call, protocol in zip(calls, protocols, strict=True):
            assert call.reply is not None
            protocol.reply(call.reply)

    async def keep_limits(self) -> None:
        """Keep the time limits of all connections; runs beside the server."""
        while True:
            await asyncio.sleep(_SWEEP_EVERY_S)
            now = monotonic()
            for connection in list(self.connections):
                connection.sweep(now)

    def _shadow(self) -> None:
        """A slice of the shadow's work between two turns; what is left gets another slice."""
        self.service.shadow()
        self._shadow_due = self.service.parts.predictor.shadow_waits
        if self._shadow_due:
            assert self._loop is not None
            self._loop.call_later(0.002, self._shadow)


class _Disk:
    """Flushes the log on a thread of its own. All that is written while one flush runs shares the next."""

    def __init__(
        self,
        sync: Callable[[], None],
        loop: asyncio.AbstractEventLoop,
        done: "Callable[[list[Call], list[FastProtocol], LogUnwritable | None], None]",
    ) -> None:
        self._sync, self._loop, self._done = sync, loop, done
        self._pending: deque[tuple[list[Call], list[FastProtocol]]] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self.waiting = 0
        self._thread = threading.Thread(target=self._run, name="disk", daemon=True)
        self._thread.start()

    def flush(self, calls: list[Call], protocols: "list[FastProtocol]") -> None:
        """Called by the event loop, after the calls' records were written."""
        self.waiting += len(calls)
        with self._changed:
            self._pending.append((calls, protocols))
            self._changed.notify()

    def stop(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._pending and not self._stopping:
                    self._changed.wait()
                if not self._pending:
                    return
                batches = list(self._pending)
                self._pending.clear()
            error = None
            try:
                self._sync()
            except LogUnwritable as failed:
                error = failed
            except Exception as failed:
                _log.exception("serving.flush_failed")
                error = LogUnwritable.at("the prediction log", repr(failed))
            self._loop.call_soon_threadsafe(self._answer, batches, error)

    def _answer(self, batches: "list[tuple[list[Call], list[FastProtocol]]]", error: LogUnwritable | None) -> None:
        for calls, protocols in batches:
            self.waiting -= len(calls)
            self._done(calls, protocols, error)


class FastProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        turns: Turns,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._turns = turns
        self._limits = turns.limits
        self._routes = turns.routes
        self._busy = _Busy()
        self._route: str | None = None
        self._body = b""
        self._keep_alive = True
        self._head_bytes = 0
        self._in_head = False
        self._in_body = False
        self._since = monotonic()
        self._refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        house = self._turns.connections
        if len(house) >= self._limits.connections:
            self._turns.service.counts.turned_away["connections"] += 1
            self._refuse(Refusal(429, "Too many connections", "Close some, or come back after Retry-After seconds.", retry_after_s=1))
        else:
            house.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._turns.connections.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if not self._in_body:
            if self._head_bytes == 0:
                self._since = monotonic()
            self._head_bytes += len(data)
            self._in_head = True
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            if not isinstance(error.__context__, _Refused):
                raise
        except httptools.HttpParserError:
            self._refuse(Refusal(400, "Not HTTP", "The request cannot be read as HTTP/1.1."))
        except httptools.HttpParserUpgrade:
            self._refuse(Refusal(400, "No upgrade", "This service speaks HTTP/1.1 only."))
        if self._in_head and self._head_bytes > self._limits.head_bytes and not self._refused:
            self._refuse(self._long_head())

    def _long_head(self) -> Refusal:
        limits = self._limits
        most = f"A request's line and headers may have {limits.head_bytes} bytes and {limits.headers} headers."
        return Refusal(431, "Head too large", most)

    # What the parser calls

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._route = None
        self._in_head = True
        if self._head_bytes == 0:  # it came behind another request in the same bytes
            self._head_bytes, self._since = 1, monotonic()

    def on_headers_complete(self) -> None:
        if len(self.headers) > self._limits.headers or (
            self._head_bytes > self._limits.head_bytes
            and len(self.url) + sum([len(name) + len(value) + 4 for name, value in self.headers]) > self._limits.head_bytes
        ):
            raise self._refused_with(self._long_head())
        self._in_head, self._in_body = False, True
        self._since = monotonic()
        for name, value in self.headers:
            if name == b"content-length" and int(value) > self._limits.body_bytes:
                raise self._refused_with(self._large_body())
        parser = self.parser
        if parser.get_method() == b"POST" and not self.pipeline and (self.cycle is None or self.cycle.response_complete or self._is_busy):
            route = self._routes.get(self.url)
            if route is not None:
                self._route = route
                self._body = b""
                self._keep_alive = parser.should_keep_alive() and parser.get_http_version() != "1.0"
                if self.expect_100_continue:
                    self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                return
        url, headers, expect = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expect
        self.headers.extend(headers)  # the list that the scope holds
        super().on_headers_complete()
        if self._turns.draining:
            self.cycle.keep_alive = False

    @property
    def _is_busy(self) -> bool:
        cycle: object = self.cycle
        return cycle is self._busy

    def on_body(self, body: bytes) -> None:
        if self._route is None:
            super().on_body(body)
            return
        self._body = self._body + body if self._body else body
        if len(self._body) > self._limits.body_bytes:
            raise self._refused_with(self._large_body())

    def on_message_complete(self) -> None:
        self._in_body = False
        self._head_bytes = 0
        if self._route is None:
            super().on_message_complete()
            return
        busy = self._busy
        busy.waiting += 1
        busy.response_complete = False
        busy.keep_alive = self._keep_alive
        self.cycle = busy  # type: ignore[assignment]
        turns = self._turns
        if busy.waiting > _MOST_PIPELINED:
            self.flow.pause_reading()
        if not turns.add(Call(self._route, self.headers, self._body), self):
            turns.service.counts.replies[self._route, 429] += 1
            self.reply(turns.full)

    # Answers

    def reply(self, reply: Reply) -> None:
        """Write one reply; replies of a connection come in the order of its requests."""
        busy = self._busy
        busy.waiting -= 1
        done = busy.waiting == 0
        close = done and (self._turns.draining or not busy.keep_alive)
        if not self.transport.is_closing():
            self.transport.write(_written(reply, self.server_state.default_headers, close))
            if close:
                self.transport.close()
        if done:
            busy.response_complete = True
            self.on_response_complete()

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        self._since = monotonic()
        if self.transport.is_closing():
            return
        if not self.flow.write_paused:
            self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        elif self._turns.draining and not self._in_head and not self._in_body:
            self.transport.close()

    def pause_writing(self) -> None:
        """The caller does not read its replies: it gets no further ones to wait for."""
        super().pause_writing()
        self.flow.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.flow.resume_reading()

    # Ends

    def shutdown(self) -> None:
        """Finish what is under way; stay a moment for a request that is on its way already, and answer it with `connection: close`."""
        self._turns.draining = True
        if self._is_at_rest:
            self.loop.call_later(self._limits.drain_s, self._close_if_at_rest)
        elif self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False

    @property
    def _is_at_rest(self) -> bool:
        return (self.cycle is None or self.cycle.response_complete) and not self._in_body and self._head_bytes == 0

    def _close_if_at_rest(self) -> None:
        if self._is_at_rest and not self.transport.is_closing():
            self.transport.close()

    def sweep(self, now: float) -> None:
        """Called now and then: end what takes too long."""
        if self._refused or self.transport.is_closing():
            return
        limits, waited_s = self._limits, now - self._since
        answered = self.cycle is None or self.cycle.response_complete
        if self._in_body:
            if waited_s > limits.body_s and self._route is None and self.cycle is not None and self.cycle.response_complete:
                self.transport.close()  # it has its answer, and nobody waits for the rest
            elif waited_s > limits.body_s:
                self._refuse(Refusal(408, "Too slow", f"The body did not come within {limits.body_s:g} s."))
        elif self.flow.write_paused:
            if waited_s > limits.body_s:
                self.transport.abort()  # it asked and does not read: its replies would wait here for ever
        elif self._head_bytes and answered:
            if waited_s > limits.head_s:
                self._refuse(Refusal(408, "Too slow", f"The headers did not come within {limits.head_s:g} s."))
        elif answered and waited_s > limits.idle_s:
            self.transport.close()

    def _large_body(self) -> Refusal:
        return Refusal(413, "Body too large", f"A body may have {self._limits.body_bytes} bytes. Send fewer items at once.")

    def _refused_with(self, refusal: Refusal) -> "_Refused":
        """Refuse, and give the parser an error to stop at."""
        self._refuse(refusal)
        return _Refused()

    def _refuse(self, refusal: Refusal) -> None:
        """Answer what never became a request, and close. What still comes in is thrown away for a moment: closing at once, with bytes
        unread, would reset the connection and destroy the answer on its way."""
        self._refused = True
        service = self._turns.service
        service.counts.replies["other" if self._route is None else self._route, refusal.status] += 1
        self.transport.write(_written(service.refuse("other", refusal, None), self.server_state.default_headers, True))
        self.transport.write_eof()
        self.loop.call_later(_LINGER_S, self.transport.close)


class _Refused(Exception):
    """Stops the parser."""


def _written(reply: Reply, more: list[tuple[bytes, bytes]], close: bool) -> bytes:
    """A reply as bytes."""
    parts = [STATUS_LINE[reply.status]]
    for name, value in more:
        parts += (name, b": ", value, b"\r\n")
    for name, value in reply.headers:
        parts += (name, b": ", value, b"\r\n")
    parts.append(b"content-length: %d\r\n" % len(reply.body))
    parts.append(b"connection: close\r\n\r\n" if close else b"\r\n")
    parts.append(reply.body)
    return b"".join(parts)
