"""A Redis of its own, that forgets all when it dies."""

from pathlib import Path

from mlops_lab.chaos.process import Process
from mlops_lab.chaos.replica import free_port
from mlops_lab.errors import FeatureStoreUnreachable
from mlops_lab.features.on_redis_connection import Connection
from mlops_lab.features.redis_address import Address

PROGRAM = "redis-server"
_ANSWERS_S = 10.0


class RedisServer(Process):
    """On a free port of this machine; keeps nothing on disk.

    Args:
        folder: Scratch.
    """

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        options = ["--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--appendonly", "no", "--dir", str(folder)]
        super().__init__([PROGRAM, *options], {}, folder / "redis.stderr")

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> float:
        """Start it, empty, and wait until it answers; returns the seconds. Raises ServiceNotReady."""
        self.spawn()
        return self.await_("Redis did not answer", self._answers, _ANSWERS_S)

    def connect(self) -> Connection:
        """A plain connection. Raises FeatureStoreUnreachable."""
        return Connection(Address.of(self.url))

    def _answers(self) -> bool:
        try:
            self.connect().close()
            return True
        except FeatureStoreUnreachable:
            return False
