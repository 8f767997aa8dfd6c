"""A lean HTTP/1.1 client for load on this machine: keep-alive connections, one request at a time on each, never a second try.

A general client costs more processor time per request than the service it asks; here two cores carry both.
"""

import asyncio
import time
from collections import deque
from dataclasses import dataclass

TIMEOUT_S = 30.0
IDLE_S = 2.0
"""A connection that was idle for longer is opened anew: servers close idle ones, uvicorn after five seconds."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back from one attempt.

    Attributes:
        status: HTTP status; 0 when no answer came.
        body: The answer's body; the reason when no answer came.
        latency_us: Microseconds from the first byte sent to the last received.
    """

    status: int
    body: bytes
    latency_us: int


class Client:
    """Several connections to one service. Requests are sent in the order of the calls, as connections become free."""

    def __init__(self, host: str, port: int, connections: int = 4, token: str = "") -> None:
        self._host, self._port = host, port
        self._free: deque[_Connection] = deque(_Connection(host, port) for _ in range(connections))
        self._turn = asyncio.Semaphore(connections)
        self._authorization = f"Authorization: Bearer {token}\r\n" if token else ""

    async def post(self, path: str, body: bytes) -> Answer:
        """Send a JSON body once. Never raises for the service's sake: what went wrong is in the answer."""
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\nContent-Type: application/json\r\n"
            f"{self._authorization}Content-Length: {len(body)}\r\n\r\n"
        )
        return await self._send(head.encode() + body)

    async def get(self, path: str) -> Answer:
        """Ask for a resource once."""
        return await self._send(f"GET {path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n\r\n".encode())

    async def _send(self, request: bytes) -> Answer:
        async with self._turn:
            connection = self._free.popleft()
            started = time.perf_counter_ns()
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    status, content = await connection.send(request)
            except (OSError, EOFError, TimeoutError, ValueError, asyncio.LimitOverrunError) as error:
                connection.drop()
                status, content = 0, f"{type(error).__name__}: {error}".encode()
            except BaseException:
                connection.drop()  # cancelled half way: what is still to come on it would be taken for the next answer
                raise
            finally:
                self._free.append(connection)
            return Answer(status, content, (time.perf_counter_ns() - started) // 1000)

    def close(self) -> None:
        """Close every connection."""
        for connection in self._free:
            connection.drop()


class _Connection:
    """One connection, opened when it is first needed and again after it was dropped."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._used_at = 0.0

    async def send(self, request: bytes) -> tuple[int, bytes]:
        if time.monotonic() - self._used_at > IDLE_S:
            self.drop()
        if self._reader is None or self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        status = int(head[9:12])
        lower = head.lower()
        at = lower.find(b"\r\ncontent-length:")
        if at < 0:
            raise ValueError("the answer has no content-length")
        length = int(lower[at + 17 : lower.index(b"\r\n", at + 17)])
        body = await self._reader.readexactly(length) if length else b""
        self._used_at = time.monotonic()
        if b"\r\nconnection: close" in lower:
            self.drop()
        return status, body

    def drop(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None
