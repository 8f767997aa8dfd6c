"""The load: keep-alive connections, each with one request under way. Made to cost a small part of what any server under test costs."""

import gc
import re
import select
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_RECEIVE = 1 << 18


class Unmeasurable(Exception):
    """There is nothing to measure: the machine, a server or its answers are not what a comparison needs."""


class LoadFailed(Unmeasurable):
    """A reply that is none, or no 200."""


@dataclass(frozen=True)
class Load:
    """What came of one load.

    Attributes:
        replies: Every whole 200 reply, head and body.
        latencies_s: Of each, from the first byte sent to the last byte received.
        wall_s: From the first request to the last reply.
        cpu_s: Processor time of this process over that time.
        lost: Connections that the server closed; 0 unless it died.
    """

    replies: list[bytes]
    latencies_s: list[float]
    wall_s: float
    cpu_s: float
    lost: int


def request(path: str, body: bytes) -> bytes:
    """The bytes of one POST."""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def body_of(reply: bytes) -> bytes:
    """The body of a whole reply."""
    return reply[reply.index(b"\r\n\r\n") + 4 :]


def drive(port: int, requests: Sequence[bytes], connections: int, seconds: float, *, until_death: bool = False) -> Load:
    """Send requests in turn over all connections until the time is up, then wait for the replies under way.

    Args:
        port: On 127.0.0.1.
        requests: Whole requests; each connection sends the next one.
        connections: How many, each with one request under way.
        seconds: Sending ends after so long.
        until_death: The server will be killed: its closed connections are no failure, and the load ends when all are closed.

    Raises:
        LoadFailed: A reply was not 200, or a connection was lost.
    """
    clock = time.perf_counter
    sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(connections)]
    poller = select.epoll()
    receive, send, sent, begun = {}, {}, {}, {}
    for one in sockets:
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        one.settimeout(30)
        poller.register(one.fileno(), select.EPOLLIN)
        receive[one.fileno()], send[one.fileno()] = one.recv, one.sendall
    replies: list[bytes] = []
    latencies: list[float] = []
    lost, turn, total = 0, 0, len(requests)
    gc.disable()  # it would walk over every kept reply again and again
    cpu, began = time.process_time(), clock()
    deadline = began + seconds
    try:
        for fd, out in send.items():
            sent[fd] = clock()
            out(requests[turn])
            turn = (turn + 1) % total
        while sent:
            ready = poller.poll(30)
            if not ready:
                raise LoadFailed("the server gave no answer for 30 s")
            for fd, _ in ready:
                try:
                    data = receive[fd](_RECEIVE)
                except ConnectionError:
                    data = b""
                now = clock()
                if not data:
                    if not until_death:
                        raise LoadFailed("the server closed a connection")
                    lost += 1
                    poller.unregister(fd)
                    sent.pop(fd, None)
                    continue
                if fd in begun:
                    data = begun.pop(fd) + data
                if not _is_whole(data):
                    begun[fd] = data
                    continue
                if not data.startswith(b"HTTP/1.1 200"):
                    raise LoadFailed(f"a reply was no 200: {data[:600]!r}")
                replies.append(data)
                latencies.append(now - sent[fd])
                if now < deadline:
                    sent[fd] = clock()
                    try:
                        send[fd](requests[turn])
                    except ConnectionError:
                        continue  # its closed end is read next
                    turn = (turn + 1) % total
                else:
                    del sent[fd]
        wall, cpu = clock() - began, time.process_time() - cpu
    finally:
        gc.enable()
        poller.close()
        for one in sockets:
            one.close()
    return Load(replies, latencies, wall, cpu, lost)


def _is_whole(data: bytes) -> bool:
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return False
    length = _LENGTH.search(data, 0, end + 2)
    if length is None:
        raise LoadFailed(f"a reply does not say its length: {data[:300]!r}")
    return len(data) >= end + 4 + int(length[1])


def ask_once(port: int, content: bytes) -> int | None:
    """Status of one request on a new connection; None where nobody listens or nothing whole comes back."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            connection.sendall(content)
            data = b""
            while not data or not _is_whole(data):
                more = connection.recv(_RECEIVE)
                if not more:
                    return None
                data += more
    except OSError:
        return None
    return int(data[9:12])
