"""A connection on uvicorn: a busy request is read, worked on together with what else came in, and answered, without a task for each.

uvicorn keeps what it is good at: listening, parsing HTTP/1.1 with httptools, shutting down, and every other route by ASGI. The two
routes that carry the traffic leave it behind the parser: their bodies are collected, all requests that one turn of the event loop
brought are handed to the service at once, and the replies are written straight to the connections. The limits of a connection are kept
here as well, for all routes.
"""

import asyncio
from collections import deque
from time import monotonic
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from mlops_lab.serving.call import Call, Reply
from mlops_lab.serving.contract import Refusal
from mlops_lab.serving.turns import Turns

_MOST_PIPELINED = 32
_LINGER_S = 1.0
_RAW_FACTOR = 8
"""A body may come in so many times its bytes on the wire: a chunk of one byte takes six."""


class _Busy:
    """Stands where uvicorn keeps the request under way, so that it queues behind ours what is pipelined, and waits for us at the end."""

    __slots__ = ("disconnected", "keep_alive", "message_event", "response_complete")

    def __init__(self) -> None:
        self.disconnected = False
        self.keep_alive = True
        self.message_event = asyncio.Event()
        self.response_complete = True


class _Owed:
    """The reply to one request; it leaves when those before it have left."""

    __slots__ = ("_protocol", "close", "ready")

    def __init__(self, protocol: "FastProtocol", close: bool) -> None:
        self._protocol = protocol
        self.close = close
        self.ready: Reply | None = None

    def reply(self, reply: Reply) -> None:
        self.ready = reply
        self._protocol.send_ready()

    def drop(self) -> None:
        self._protocol.transport.abort()


class FastProtocol(HttpToolsProtocol):
    """One connection. Replies leave in the order of their requests, whichever is ready first, and nothing follows a refusal."""

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
        self._owed: deque[_Owed] = deque()
        self._route: str | None = None
        self._body: bytes | bytearray = b""
        self._raw_bytes = 0  # since the beginning of this request's head, then of its body
        self._head_size = 0
        self._in_head = False
        self._in_body = False
        self._asgi_body = False  # it belongs to the request that the ASGI app has
        self._offered = False  # this request offers another protocol
        self._declined = False  # an earlier one did
        self._deaf = False
        self._since = monotonic()

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
        self._deaf = True
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]
        """The caller sends nothing more: what it asked for it still gets, then the connection ends. True keeps it open until then."""
        if not self._owed and not self._is_elsewhere:
            return False
        self._end_behind_replies()
        return True

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        if not self._in_body and not self._in_head:
            self._in_head, self._raw_bytes, self._since = True, 0, monotonic()
        self._raw_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            if not isinstance(error.__context__, _Refused):
                raise
        except httptools.HttpParserUpgrade as offer:
            self._decline(data[offer.args[0] :])
        except httptools.HttpParserError:
            self._refuse(Refusal(400, "Not HTTP", "The request cannot be read as HTTP/1.1."))
        if self._in_head and self._raw_bytes > self._limits.head_bytes and not self._is_deaf:
            self._refuse(self._long_head())
        elif self._in_body and not self._is_deaf and self._raw_bytes > _RAW_FACTOR * self._limits.body_bytes:
            self._refuse(self._large_body())  # endless trailers, or chunks that are all frame and no content

    def _decline(self, rest: bytes) -> None:
        """Read a request that offers another protocol as if it did not: the parser would take its body for that protocol. Java's client
        offers HTTP/2 in this way with the first request of a connection; nobody needs to offer twice."""
        if self._declined:
            self._refuse(Refusal(400, "No upgrade", "This service speaks HTTP/1.1 only. Send the request without an Upgrade header."))
            return
        self._declined = True
        kept = [(name, value) for name, value in self.headers if name not in (b"connection", b"http2-settings", b"upgrade")]
        head = b"".join([self.parser.get_method(), b" ", self.url, b" HTTP/1.1\r\n", *(b"%s: %s\r\n" % each for each in kept), b"\r\n"])
        self.parser = httptools.HttpRequestParser(self)
        self._in_head = self._in_body = self._offered = False
        self.data_received(head + rest)

    @property
    def _is_deaf(self) -> bool:
        """Whether what comes in is thrown away."""
        return self._deaf

    # What the parser calls

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._route = None
        self._head_size = 0
        if not self._in_head:  # it came behind another request in the same bytes
            self._in_head, self._raw_bytes, self._since = True, 0, monotonic()

    def on_url(self, url: bytes) -> None:
        self.url += url
        self._head_size += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_body:
            return  # a trailer: it comes too late to say anything
        self._head_size += len(name) + len(value) + 4
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        limits = self._limits
        if len(self.headers) > limits.headers or self._head_size > limits.head_bytes:
            raise self._refused_with(self._long_head())
        self._offered = self.parser.should_upgrade()
        if self._offered:
            return
        self._in_head, self._in_body = False, True
        self._raw_bytes = max(self._raw_bytes - self._head_size, 0)  # what of the body came with the head counts
        self._since = monotonic()
        for name, value in self.headers:
            if name == b"content-length" and int(value) > limits.body_bytes:
                raise self._refused_with(self._large_body())
        parser = self.parser
        if parser.get_method() == b"POST" and not self._is_elsewhere:
            route = self._routes.get(self.url)
            if route is not None:
                self._route = route
                self._body = b""
                self._busy.keep_alive = parser.should_keep_alive() and parser.get_http_version() != "1.0"
                if self.expect_100_continue:
                    self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                return
        url, headers, expect = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expect
        self.headers.extend(headers)  # the list that the scope holds
        super().on_headers_complete()
        self._asgi_body = True
        if self._turns.draining:
            self.cycle.keep_alive = False

    @property
    def _is_elsewhere(self) -> bool:
        """Whether a request of this connection is with the ASGI app, or waits for it."""
        cycle: object = self.cycle
        return bool(self.pipeline) or not (cycle is None or cycle is self._busy or self.cycle.response_complete)

    def on_body(self, body: bytes) -> None:
        if self._route is None:
            super().on_body(body)
            return
        if not self._body:
            self._body = body
        else:
            if not isinstance(self._body, bytearray):
                self._body = bytearray(self._body)
            self._body += body
        if len(self._body) > self._limits.body_bytes:
            raise self._refused_with(self._large_body())

    def on_message_complete(self) -> None:
        if self._offered:
            return
        self._in_body = self._asgi_body = False
        if self._route is None:
            super().on_message_complete()
            return
        owed = _Owed(self, close=not self._busy.keep_alive)
        self._owed.append(owed)
        self._busy.response_complete = False
        self.cycle = self._busy  # type: ignore[assignment]
        if len(self._owed) > _MOST_PIPELINED:
            self.flow.pause_reading()
        self._turns.add(Call(self._route, self.headers, bytes(self._body)), owed)

    # Answers

    def send_ready(self) -> None:
        """Write the replies that are ready, up to the first that is not."""
        owed, transport = self._owed, self.transport
        while owed and (reply := owed[0].ready) is not None:
            close = owed.popleft().close or (not owed and self._turns.draining)
            if not transport.is_closing():
                transport.write(_written(reply, self.server_state.default_headers, close))
                if close:
                    self._linger()
            if close:
                owed.clear()
        if not owed and not self._busy.response_complete:
            self._busy.response_complete = True
            self.on_response_complete()

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        self._since = monotonic()
        if self.transport.is_closing() or self._deaf:
            return
        if not self.flow.write_paused:
            self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        elif self._turns.draining and self._is_at_rest:
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
        return (self.cycle is None or self.cycle.response_complete) and not self._in_body and not self._in_head

    def _close_if_at_rest(self) -> None:
        if self._is_at_rest and not self.transport.is_closing():
            self.transport.close()

    def sweep(self, now: float) -> None:
        """End what takes too long."""
        if self._deaf or self.transport.is_closing():
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
        elif self._in_head and answered:
            if waited_s > limits.head_s:
                self._refuse(Refusal(408, "Too slow", f"The headers did not come within {limits.head_s:g} s."))
        elif answered and waited_s > limits.idle_s:
            self.transport.close()

    def _long_head(self) -> Refusal:
        limits = self._limits
        most = f"A request's line and headers may have {limits.head_bytes} bytes and {limits.headers} headers."
        return Refusal(431, "Head too large", most)

    def _large_body(self) -> Refusal:
        return Refusal(413, "Body too large", f"A body may have {self._limits.body_bytes} bytes. Send fewer items at once.")

    def _refused_with(self, refusal: Refusal) -> "_Refused":
        """Refuse, and give the parser an error to stop at."""
        self._refuse(refusal)
        return _Refused()

    def _refuse(self, refusal: Refusal) -> None:
        """Answer what never became a request, behind the replies that are owed, and close. Behind a request that is with the ASGI app
        the connection just ends."""
        self._deaf = True
        service = self._turns.service
        service.counts.replies["other" if self._route is None else self._route, refusal.status] += 1
        if self._is_elsewhere and (self.pipeline or not self._asgi_body or self.cycle.response_started):
            self.pipeline.clear()
            self.cycle.keep_alive = False
            return
        owed = _Owed(self, close=True)
        owed.ready = service.refuse("other", refusal, None)
        self._owed.append(owed)
        self.send_ready()

    def _end_behind_replies(self) -> None:
        """Take nothing more in; the last reply that is owed closes the connection."""
        self._deaf = True
        if self._is_elsewhere:
            self.cycle.keep_alive = False
        elif self._owed:
            self._owed[-1].close = True
        else:
            self._linger()

    def _linger(self) -> None:
        """Close. What still comes in is thrown away for a moment: closing at once, with bytes unread, would reset the connection and
        destroy the answer on its way."""
        self._deaf = True
        self.flow.resume_reading()
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
