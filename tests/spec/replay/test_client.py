"""The client of a replay: a few connections that are kept, and one answer for each request whatever happens to them."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from mlops_lab.replay import client as client_module
from mlops_lab.replay.client import Client

MONDAY = datetime(2013, 4, 1, tzinfo=UTC)
MINUTE, DAY, WEEK = timedelta(minutes=1), timedelta(days=1), timedelta(weeks=1)

Handle = Callable[[asyncio.StreamWriter, bytes], Awaitable[None]]


@dataclass
class Server:
    """A service on a free port that counts the requests it reads; a test says what it does with each."""

    handle: Handle
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    port: int = 0

    async def __aenter__(self) -> "Server":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next((int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), 0)
                self.requests.append(head + await reader.readexactly(length))
                await self.handle(writer, self.requests[-1])
                if writer.is_closing():
                    return
        except (EOFError, ConnectionError):
            pass
        finally:
            writer.close()


async def answer_ok(writer: asyncio.StreamWriter, _: bytes) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")


async def hang_up(writer: asyncio.StreamWriter, _: bytes) -> None:
    writer.close()


async def answer_half(writer: asyncio.StreamWriter, _: bytes) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this")
    writer.close()


async def answer_without_length(writer: asyncio.StreamWriter, _: bytes) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\nhow long?")


async def answer_nonsense(writer: asyncio.StreamWriter, _: bytes) -> None:
    writer.write(b"220 mail ready\r\n\r\n")


async def answer_endless_head(writer: asyncio.StreamWriter, _: bytes) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000 + b"\r\n\r\n")


async def answer_nothing(writer: asyncio.StreamWriter, _: bytes) -> None:
    return


def test_an_answer_comes_with_status_body_and_latency() -> None:
    async def play() -> None:
        async with Server(answer_ok) as server:
            client = Client("127.0.0.1", server.port, token="secret")
            found = [await client.post("/v1/predict", b'{"items":[]}'), await client.get("/v1/model")]
            client.close()

        assert [(answer.status, answer.body) for answer in found] == [(200, b"ok")] * 2
        assert all(answer.latency_us > 0 for answer in found)
        posted, got = server.requests
        assert posted.startswith(b"POST /v1/predict HTTP/1.1\r\n")
        assert b"Authorization: Bearer secret\r\n" in posted
        assert posted.endswith(b'\r\n\r\n{"items":[]}')
        assert got.startswith(b"GET /v1/model HTTP/1.1\r\n")

    asyncio.run(play())


def test_connections_are_kept_and_shared() -> None:
    """Many requests at once go over the connections there are, and each gets its own answer."""

    async def echo(writer: asyncio.StreamWriter, request: bytes) -> None:
        body = request.split(b"\r\n\r\n")[1]
        await asyncio.sleep(0)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    async def play() -> None:
        async with Server(echo) as server:
            client = Client("127.0.0.1", server.port, connections=3)
            found = await asyncio.gather(*(client.post("/", str(i).encode()) for i in range(60)))
            client.close()

        assert [answer.body for answer in found] == [str(i).encode() for i in range(60)]
        assert server.connections <= 3

    asyncio.run(play())


@pytest.mark.parametrize("handle", [hang_up, answer_half, answer_without_length, answer_nonsense, answer_endless_head, answer_nothing])
def test_what_goes_wrong_is_in_the_answer_and_is_not_tried_again(handle: Handle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "TIMEOUT_S", 0.2)

    async def play() -> None:
        async with Server(answer_ok) as server:
            client = Client("127.0.0.1", server.port, connections=1)
            assert (await client.post("/v1/predict", b"{}")).status == 200
            server.handle = handle
            found = await client.post("/v1/predict", b"{}")
            assert (found.status, len(server.requests)) == (0, 2)
            assert found.body  # the reason
            server.handle = answer_ok
            assert (await client.post("/v1/predict", b"{}")).status == 200
            assert len(server.requests) == 3
            client.close()

    asyncio.run(play())


def test_a_refused_connection_is_an_attempt_without_answer() -> None:
    async def play() -> None:
        async with Server(answer_ok) as server:
            port = server.port
        found = await Client("127.0.0.1", port).get("/v1/model")

        assert found.status == 0
        assert b"ConnectionRefusedError" in found.body

    asyncio.run(play())


def test_an_answer_that_closes_the_connection_is_whole_and_the_next_request_opens_another() -> None:
    async def answer_and_close(writer: asyncio.StreamWriter, _: bytes) -> None:
        writer.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbusy")
        writer.close()

    async def play() -> None:
        async with Server(answer_and_close) as server:
            client = Client("127.0.0.1", server.port, connections=1)
            found = [await client.get("/"), await client.get("/")]

        assert [(answer.status, answer.body) for answer in found] == [(503, b"busy")] * 2
        assert server.connections == 2

    asyncio.run(play())


def test_a_connection_that_nobody_used_for_a_while_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The service may be closing it at this very moment, and the request would be lost with it."""
    monkeypatch.setattr(client_module, "IDLE_S", -1.0)

    async def play() -> None:
        async with Server(answer_ok) as server:
            client = Client("127.0.0.1", server.port, connections=1)
            assert [(await client.get("/")).status for _ in range(3)] == [200] * 3
            client.close()
        assert server.connections == 3

    asyncio.run(play())


def test_the_answer_to_a_request_that_was_given_up_is_never_taken_for_the_next() -> None:
    async def slow_first(writer: asyncio.StreamWriter, request: bytes) -> None:
        body = request.split(b"\r\n\r\n")[1]
        if body == b"first":
            await asyncio.sleep(0.05)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    async def play() -> None:
        async with Server(slow_first) as server:
            client = Client("127.0.0.1", server.port, connections=1)
            await client.post("/", b"before")
            given_up = asyncio.create_task(client.post("/", b"first"))
            while len(server.requests) < 2:
                await asyncio.sleep(0.005)
            given_up.cancel()
            await asyncio.sleep(0.1)
            found = await client.post("/", b"second")
            client.close()

        assert found.body == b"second"

    asyncio.run(play())
