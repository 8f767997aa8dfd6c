"""A Redis of a test's own, which may be killed, stopped and restarted; and the features of a July noon in it."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import redis

from mlops_lab.events import Message
from mlops_lab.features.feast_layout import Layout, to_value_proto
from mlops_lab.features.on_redis import RedisProgress
from mlops_lab.features.redis_address import Address
from mlops_lab.features.rows import Progress, RowRef
from mlops_lab.flights.facts import DEPARTED, OBSERVED
from mlops_lab.flights.online_usecase import FlightsOnline
from mlops_lab.flights.rows import VIEWS
from mlops_lab.flights.transform import WEATHER

AT = datetime(2013, 7, 1, 12, tzinfo=UTC)
LAYOUT = Layout(VIEWS)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class OwnRedis:
    """`redis-server` on a port of its own, without a disk."""

    def __init__(self, password: str = "") -> None:
        self.port = free_port()
        self.password = password
        self._program = shutil.which("redis-server")
        assert self._program, "redis-server is missing: install it (Debian: redis-server); these tests kill and stop one of their own"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> "redis.Redis":
        return redis.Redis(port=self.port, password=self.password or None, socket_timeout=5)

    def start(self) -> None:
        """Empty, as it has no disk."""
        secret = ["--requirepass", self.password] if self.password else []
        command = [str(self._program), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", *secret]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd="/tmp")
        until = time.monotonic() + 20
        while True:
            try:
                with self.client() as client:
                    client.ping()
                return
            except redis.RedisError:
                assert time.monotonic() < until, "redis-server did not start"
                time.sleep(0.02)

    def send(self, number: signal.Signals) -> None:
        """A signal to it; SIGKILL waits for its end."""
        assert self._process is not None
        os.kill(self._process.pid, number)
        if number == signal.SIGKILL:
            self._process.wait(20)

    def end(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.send(signal.SIGKILL)


def rows_at_noon() -> Mapping[RowRef, bytes]:
    """Newark, nine minutes after its weather and three after a departure of aircraft N1."""
    state = FlightsOnline().row_state()
    weather = Message(OBSERVED, AT - timedelta(minutes=9), "EWR", dict.fromkeys(WEATHER, 7.0), id="w")
    data = {"flight_id": "f", "carrier": "UA", "origin": "EWR", "tail_number": "N1", "delay_min": 12}
    state.apply([weather, Message(DEPARTED, AT - timedelta(minutes=3), "EWR", data, id="d")])
    return state.rows()


def fill(server: OwnRedis, folder: Path) -> None:
    """Put the rows and how far they go into it, as Feast and our processor do."""
    with server.client() as client:
        for ref, row in rows_at_noon().items():
            client.hset(LAYOUT.redis_key(ref), LAYOUT.redis_field(ref.view), to_value_proto(row))
    secret = folder / "writer.password"
    secret.write_text(server.password)
    book = RedisProgress(Address.of(server.url, secret))
    book.write(Progress({"observations": (2,)}, int(AT.timestamp()), time.time(), "e"))
    book.close()
