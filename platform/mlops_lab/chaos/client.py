"""Runs the load client as a process of its own, so that its history has nothing to do with who checks it."""

import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from mlops_lab.chaos.history import Request, read_history
from mlops_lab.chaos.load import Plan, written
from mlops_lab.errors import ServiceNotReady


class Client:
    """A load that runs while one is within its context; `stop` ends it and waits for the last line."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.history = Path(plan.history)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        at = self.history.with_suffix(".plan.json")
        at.write_text(written(self.plan))
        self._process = subprocess.Popen([sys.executable, "-m", "mlops_lab.chaos.load", str(at)], stdin=subprocess.DEVNULL)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def await_answers(self, count: int = 1, within_s: float = 20.0) -> None:
        """Wait until so many lines are in the history. Raises ServiceNotReady when they do not come."""
        deadline = time.monotonic() + within_s
        while not self.history.is_file() or self.history.read_bytes().count(b"\n") < count:
            if time.monotonic() > deadline:
                raise ServiceNotReady("The load got no answers.", "see the replica's stderr in the scratch home (`--keep`).")
            time.sleep(0.02)

    def wait(self) -> None:
        """Wait for the end that the plan has."""
        assert self._process is not None
        self._process.wait(self.plan.seconds + self.plan.timeout_s + 30)

    def stop(self) -> None:
        """Let the requests that are under way finish, then end."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(self.plan.timeout_s + 10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def requests(self) -> list[Request]:
        """The history so far."""
        return read_history(self.history)
