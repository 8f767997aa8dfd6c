"""The service on uvicorn: a busy request is read, worked on together with what else came in, and answered, without a task for each.

uvicorn keeps what it is good at: listening, parsing HTTP/1.1 with httptools, shutting down, and every other route by ASGI. The two
routes that carry the traffic leave it behind the parser: their bodies are collected, all requests that one turn of the event loop
brought are handed to the service at once, and the replies are written straight to the connections. The limits of a connection are kept
here as well, for all routes.
"""

import asyncio
import errno
import logging
import socket
from functools import partial
from time import monotonic
from typing import Any

import httptools
import uvicorn
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from mlops_lab.errors import PortInUse
from mlops_lab.serving.app import App
from mlops_lab.serving.call import Call, Reply
from mlops_lab.serving.contract import Refusal
from mlops_lab.serving.turns import Turns

_MOST_PIPELINED = 32
_LINGER_S = 1.0

_log = logging.getLogger(__name__)


def run(app: App, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT; requests that have begun are finished.

    Raises:
        PortInUse: Another program listens there.
    """
    listener = _listen(host, port)
    _log.info("serving.started", extra={"host": host, "port": listener.getsockname()[1]})
    server_of(app).run(sockets=[listener])


def server_of(app: App) -> uvicorn.Server:
    """The server of an app, still to be given its sockets."""
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=partial(FastProtocol, turns=app.turns),  # type: ignore[arg-type]
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=10,
    )
    return uvicorn.Server(config)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUse.at(host, port) from error
        raise
    return listener


class _Busy:
    """Stands where uvicorn keeps the request under way, so that it queues behind ours what is pipelined, and waits for us at the end."""

    __slots__ = ("disconnected", "keep_alive", "message_event", "response_complete", "waiting")

    def __init__(self) -> None:
        self.disconnected = False
        self.keep_alive = True
        self.message_event = asyncio.Event()
        self.response_complete = True
        self.waiting = 0


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
        self._refusal: Reply | None = None

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
        refused = self._refusal is not None
        close = done and not refused and (self._turns.draining or not busy.keep_alive)
        if not self.transport.is_closing():
            self.transport.write(_written(reply, self.server_state.default_headers, close))
            if close:
                self.transport.close()
        if done:
            busy.response_complete = True
            if refused:
                self._say_refused()
            else:
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

    def drop(self) -> None:
        """End it at once, whatever it waits for."""
        self.transport.abort()

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
        self._refusal = service.refuse("other", refusal, None)
        if not self._busy.waiting:  # else behind the replies to what came before it
            self._say_refused()

    def _say_refused(self) -> None:
        if self._refusal is None or self.transport.is_closing():
            return
        self.transport.write(_written(self._refusal, self.server_state.default_headers, True))
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
