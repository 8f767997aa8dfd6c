"""Processes of the platform that are started as often as one likes, watched and ended by their pids."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from mlops_lab.bootstrap.services import QUIET
from mlops_lab.errors import FeatureStoreUnreachable, ServiceNotReady

LOOK_EVERY_S = 0.01
_READY_S = 120.0
_ASK_EVERY_S = 0.2


class Process:
    """Started by argv with LAB_ settings; as a context it leaves nothing running.

    Args:
        argv: What runs.
        settings: LAB_ variables; no other ones reach the process.
        stderr: File that takes what it says.
    """

    def __init__(self, argv: Sequence[str], settings: Mapping[str, str], stderr: Path) -> None:
        self._argv = list(argv)
        self._env = {name: value for name, value in os.environ.items() if not name.startswith("LAB_")} | QUIET | dict(settings)
        self._stderr = stderr
        self._process: subprocess.Popen[bytes] | None = None
        self.started_ns = 0

    @property
    def pid(self) -> int:
        """Of the process that runs now."""
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def seconds(self) -> float:
        """Since its start."""
        return (time.monotonic_ns() - self.started_ns) / 1e9

    def spawn(self) -> None:
        """Start it and do not wait."""
        assert not self.alive, "it runs already"
        with self._stderr.open("ab") as said:
            self.started_ns = time.monotonic_ns()
            self._process = subprocess.Popen(self._argv, env=self._env, stdin=subprocess.DEVNULL, stdout=said, stderr=said)

    def await_(self, what: str, holds: Callable[[], bool], within_s: float) -> float:
        """Wait until something holds while it runs.

        Returns:
            Seconds since its start.

        Raises:
            ServiceNotReady: It ended, or that does not hold in time.
        """
        until = time.monotonic() + within_s
        while not holds():
            if not self.alive or time.monotonic() > until:
                said = self._stderr.read_text(errors="replace")[-2000:]
                raise ServiceNotReady(f"{what} after {self.seconds:.1f} s. It said:\n{said}", "read what it said.")
            time.sleep(LOOK_EVERY_S)
        return self.seconds

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

    def wait(self, within_s: float) -> int | None:
        """Wait for its own end. Returns the exit code; None when it did not end in time and had to be killed."""
        assert self._process is not None, "not started"
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


class Worker(Process):
    """One that says by a file in its home that it is ready.

    Args:
        argv: What runs.
        settings: LAB_ variables.
        home: Where the file is.
        name: Of the file, and of the one that takes what it says.
    """

    def __init__(self, argv: Sequence[str], settings: Mapping[str, str], home: Path, name: str) -> None:
        super().__init__(argv, settings, home / f"{name}.stderr")
        self._ready = home / f"{name}.ready"
        self._name = name

    def spawn(self) -> None:
        self._ready.unlink(missing_ok=True)
        super().spawn()

    def start(self) -> float:
        """Start it, and wait until it says that it is ready; returns the seconds. Raises ServiceNotReady."""
        self.spawn()
        return self.await_ready()

    def await_ready(self) -> float:
        """Wait until it says that it is ready; returns the seconds since its start. Raises ServiceNotReady."""
        return self.await_(f"The process {self._name} was not ready", self._ready.exists, _READY_S)


def awaited(holds: Callable[[], bool], within_s: float) -> float:
    """Wait until something holds; a store that does not answer does not hold. Returns the seconds, infinite when it is not in time."""
    began = time.monotonic()
    while True:
        try:
            if holds():
                return time.monotonic() - began
        except FeatureStoreUnreachable:
            pass  # it is away on purpose
        if time.monotonic() - began > within_s:
            return float("inf")
        time.sleep(_ASK_EVERY_S)
