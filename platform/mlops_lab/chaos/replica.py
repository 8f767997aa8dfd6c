"""One real serving process: started by argv with LAB_ settings, watched and ended by its pid."""

import http.client
import json
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlops_lab.chaos.process import Process
from mlops_lab.errors import ServiceNotReady

SERVE = "mlops_lab.bootstrap.serve"


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


class Replica(Process):
    """A serving process.

    Args:
        settings: LAB_ variables; no other ones reach the process.
        stderr: File that takes what it says.
        stepped: Run it with a wall clock that is off by the seconds in this file (see `stepped.py`).
        traced: Run it under strace.
    """

    def __init__(self, settings: Mapping[str, str], stderr: Path, *, stepped: Path | None = None, traced: Trace | None = None) -> None:
        argv = [sys.executable, "-m", "mlops_lab.chaos.stepped", str(stepped)] if stepped else [sys.executable, "-m", SERVE]
        if traced is not None:
            # -D: strace is the grandchild, so that the process stays our child and its pid is the one to signal.
            options = ["-D", "-f", "--seccomp-bpf", "-ttt", "-yy", "-s", str(traced.text), "-e", f"trace={traced.calls}"]
            argv = ["strace", *options, "-o", str(traced.path), *argv]
        super().__init__(argv, settings, stderr)
        self.port = int(settings["LAB_SERVICE__PORT"])

    def start(self, within_s: float = 30.0) -> float:
        """Start it, and wait until it says that it is ready.

        Returns:
            Seconds from the start to readiness.

        Raises:
            ServiceNotReady: It ended, or is not ready in time.
        """
        self.spawn()
        return self.await_("The replica was not ready", self.is_ready, within_s)

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


def document_of(body: bytes) -> Any:
    """What JSON a replica said; its words as they are, where it is none."""
    try:
        return json.loads(body)
    except ValueError:
        return body.decode("utf-8", "replace")
