"""A replica that listens on a port, and callers that speak to it byte by byte."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import uvicorn

from mlops_lab.serving.app import create_app
from mlops_lab.serving.on_uvicorn import server_of
from mlops_lab.serving.prediction_log import read_frames
from mlops_lab.serving.turns import ConnectionLimits
from serving_builders import Replica, an_item
from waiting import until

BODY = json.dumps(an_item()).encode()


@dataclass
class House:
    """A replica behind uvicorn in a thread of this process."""

    server: uvicorn.Server
    port: int
    callers: "list[Caller]" = field(default_factory=list)

    def call(self) -> "Caller":
        """Open a connection."""
        self.callers.append(Caller(self.port))
        return self.callers[-1]


@contextmanager
def listening(replica: Replica, **limits: float) -> Iterator[House]:
    server = server_of(create_app(replica.parts, limits=ConnectionLimits(**limits)))  # type: ignore[arg-type]
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        house = House(server, listener.getsockname()[1])
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        until(lambda: server.started)
        try:
            yield house
        finally:
            for caller in house.callers:
                caller.close()
            server.should_exit = True
            thread.join(timeout=20)
            assert not thread.is_alive()


def a_request(body: bytes = BODY, *headers: str, path: str = "/v1/predict", line: str = "") -> bytes:
    head = [line or f"POST {path} HTTP/1.1", "Host: x", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


class Caller:
    """One connection."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.reader = self.socket.makefile("rb")

    def send(self, *parts: bytes, pause_s: float = 0.0) -> "Caller":
        for part in parts:
            self.socket.sendall(part)
            time.sleep(pause_s)
        return self

    def reply(self) -> tuple[int, dict[str, str], bytes]:
        line = self.reader.readline()
        assert line, "the connection was closed without a reply"
        headers = {}
        while (header := self.reader.readline().strip()) != b"":
            name, _, value = header.decode().partition(": ")
            headers[name.lower()] = value
        return int(line.split()[1]), headers, self.reader.read(int(headers.get("content-length", 0)))

    @property
    def is_closed(self) -> bool:
        return self.reader.read(1) == b""

    def close(self) -> None:
        self.reader.close()
        self.socket.close()


def logged(replica: Replica) -> list[dict[str, object]]:
    return [frame for _, frame in read_frames(replica.directory / "serving/log")]
