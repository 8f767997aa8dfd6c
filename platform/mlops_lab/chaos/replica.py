"""One real serving process: started by argv with LAB_ settings, watched and ended by its pid."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from mlops_lab.bootstrap.services import QUIET
from mlops_lab.errors import ServiceNotReady

SERVE = "mlops_lab.bootstrap.serve"

_LOOK_EVERY_S = 0.01


def free_port() -> int:
    """A port of this machine that nobody uses right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True, slots=True)
class Trace:
    """System calls to be written down: into which file, which ones, and how much of each text."""

    path: Path
    calls: str
    text: int = 64


class Replica:
    """A process that is started as often as one likes; as a context it leaves nothing running.

    Args:
        settings: LAB_ variables; no other ones reach the process.
        stderr: File that takes what it says.
        stepped: Run it with a wall clock that is off by the seconds in this file (see `stepped.py`).
        traced: Run it under strace.
    """

    def __init__(self, settings: Mapping[str, str], stderr: Path, *, stepped: Path | None = None, traced: Trace | None = None) -> None:
        self._env = {name: value for name, value in os.environ.items() if not name.startswith("LAB_")} | QUIET | dict(settings)
        self._stderr = stderr
        self._argv = [sys.executable, "-m", "mlops_lab.chaos.stepped", str(stepped)] if stepped else [sys.executable, "-m", SERVE]
        if traced is not None:
            # -D: strace is the grandchild, so that the process stays our child and its pid is the one to signal.
            options = ["-D", "-f", "--seccomp-bpf", "-ttt", "-yy", "-s", str(traced.text), "-e", f"trace={traced.calls}"]
            self._argv = ["strace", *options, "-o", str(traced.path), *self._argv]
        self._process: subprocess.Popen[bytes] | None = None
        self.port = int(settings["LAB_SERVICE__PORT"])
        self.started_ns = 0

    @property
    def pid(self) -> int:
        """Of the process that runs now."""
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, within_s: float = 30.0) -> float:
        """Start it, and wait until it says that it is ready.

        Returns:
            Seconds from the start to readiness.

        Raises:
            ServiceNotReady: It ended, or is not ready in time.
        """
        self.spawn()
        while not self.is_ready():
            if not self.alive or self.seconds > within_s:
                said = self._stderr.read_text(errors="replace")[-2000:]
                raise ServiceNotReady(f"The replica was not ready after {self.seconds:.1f} s. It said:\n{said}", "read what it said.")
            time.sleep(_LOOK_EVERY_S)
        return self.seconds

    def spawn(self) -> None:
        """Start it and do not wait."""
        assert not self.alive, "it runs already"
        with self._stderr.open("ab") as said:
            self.started_ns = time.monotonic_ns()
            self._process = subprocess.Popen(self._argv, env=self._env, stdin=subprocess.DEVNULL, stdout=said, stderr=said)

    @property
    def seconds(self) -> float:
        """Since its start."""
        return (time.monotonic_ns() - self.started_ns) / 1e9

    def is_ready(self) -> bool:
        """Whether /readyz answers 200 now."""
        return self.get("/readyz")[0] == 200

    def await_version(self, number: int, within_s: float = 15.0) -> None:
        """Wait until it says that a version answers. Raises ServiceNotReady when it does not in time."""
        until = time.monotonic() + within_s
        while True:
            status, body = self.get("/v1/model")
            if status == 200 and json.loads(body)["version"] == number:
                return
            if time.monotonic() > until:
                raise ServiceNotReady(
                    f"Version {number} does not answer after {within_s:g} s.", "read the replica's log in its scratch home."
                )
            time.sleep(0.02)

    def get(self, path: str, timeout_s: float = 2.0) -> tuple[int, bytes]:
        """One GET on a connection of its own; status 0 when nothing answers."""
        return self._ask("GET", path, None, {}, timeout_s)

    def predict(self, body: bytes, timeout_s: float = 5.0) -> tuple[int, bytes]:
        """One prediction on a connection of its own; status 0 when nothing answers."""
        return self._ask("POST", "/v1/predict", body, {"Content-Type": "application/json"}, timeout_s)

    def _ask(self, method: str, path: str, body: bytes | None, headers: dict[str, str], timeout_s: float) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            return 0, repr(error).encode()
        finally:
            connection.close()

    def kill(self) -> None:
        """`kill -9`, and reap."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def begin_end(self) -> None:
        """SIGTERM, without waiting."""
        assert self._process is not None, "not started"
        self._process.send_signal(signal.SIGTERM)

    def end(self, within_s: float = 20.0) -> int | None:
        """SIGTERM, and wait. Returns the exit code; None when it did not end in time and had to be killed."""
        self.begin_end()
        assert self._process is not None
        try:
            return self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return None

    def resident_kib(self) -> int:
        """Resident memory, from /proc."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        return 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.alive:
            self.end(5.0)
