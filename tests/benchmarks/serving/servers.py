"""Servers under test: started on a core of their own, asked what they use of it, and stopped with all their children."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving.load import Unmeasurable, ask_once

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_START_WITHIN_S = 120.0

QUIET = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PYTHONWARNINGS": "ignore",
    "OMP_NUM_THREADS": "1",
}


@dataclass(frozen=True)
class Kind:
    """How one server is started. `{port}` in `argv` and `env` stands for its port."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]


def ours(name: str, home: Path, durability: str = "process") -> Kind:
    """The real service process."""
    env = {"LAB_HOME": str(home), "LAB_SERVICE__PORT": "{port}", "LAB_SERVICE__DURABILITY": durability}
    return Kind(name, (sys.executable, "-m", "mlops_lab.bootstrap.serve"), env)


def watched(home: Path, report: Path) -> Kind:
    """The same process with a stopwatch inside; see `stages.py`."""
    env = {"LAB_HOME": str(home), "LAB_SERVICE__PORT": "{port}", "LAB_SERVICE__REPLICA": "stages"}
    return Kind("stages", (sys.executable, "-m", "benchmarks.serving.stages", str(report)), env)


def mlflow(model: Path) -> Kind:
    """`mlflow models serve`, one worker."""
    argv = (sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local", "--host", "127.0.0.1", "--port", "{port}")
    return Kind("mlflow", (*argv, "--workers", "1", "--model-uri", str(model)), {})


def reference(name: str) -> Kind:
    """The echo, or the hello."""
    return Kind(name, (sys.executable, "-m", "benchmarks.serving.references", name, "{port}"), {})


class Server:
    """A running server.

    Args:
        kind: Which.
        core: The processor it is bound to, with its children.
        folder: Its working directory; its output goes to `<name>.log` there.
        first: A request that it answers with 200 as soon as it can.
    """

    def __init__(self, kind: Kind, core: int, folder: Path, first: bytes) -> None:
        self.kind = kind
        self.port = free_port()
        env = {name: value for name, value in os.environ.items() if not name.startswith("LAB_")} | QUIET
        env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env.get('PATH', '')}"  # MLflow calls `uvicorn` by name
        env |= {name: value.format(port=self.port) for name, value in kind.env.items()}
        self._log = folder / f"{kind.name}.log"
        began = time.perf_counter()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [word.format(port=self.port) for word in kind.argv],
                env=env,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches the bench alone, which stops every group by its leader's pid
                preexec_fn=lambda: os.sched_setaffinity(0, {core}),  # no other thread runs here
            )
        try:
            self._wait(first, began + _START_WITHIN_S)
        except BaseException:
            self.kill()
            raise
        self.first_answer_s = time.perf_counter() - began

    def _wait(self, first: bytes, until: float) -> None:
        while True:
            status = ask_once(self.port, first)
            if status == 200:
                return
            if self._process.poll() is not None or time.perf_counter() > until:
                tail = self._log.read_text(errors="replace")[-2000:]
                raise Unmeasurable(f"{self.kind.name} did not answer (last status {status}). The end of its output:\n{tail}")
            time.sleep(0.002)

    @property
    def pid(self) -> int:
        return self._process.pid

    def cpu_s(self) -> float:
        """Processor seconds of the server and its children so far."""
        return sum(cpu_s(pid) for pid in family(self.pid))

    def resident_mib(self) -> float:
        """Resident memory of the server and its children, pages that two of them share counted twice."""
        return sum(_read(pid, "statm", 1) for pid in family(self.pid)) * _PAGE / 2**20

    def kill(self) -> None:
        """`kill -9`, children too."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """SIGTERM; what does not leave is killed."""
        try:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(15)
        finally:  # also when a second Ctrl-C ends the wait
            self.kill()


def free_port() -> int:
    """A port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def two_cores() -> tuple[int, int]:
    """The core of the load and the core of the servers. Raises Unmeasurable where there are not two."""
    if not hasattr(os, "sched_getaffinity"):
        raise Unmeasurable("This benchmark binds processes to cores and reads /proc: run it on Linux.")
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise Unmeasurable("This benchmark needs two cores: one for the load, one for the server under test.")
    return cores[0], cores[1]


def family(pid: int) -> Sequence[int]:
    """A process and all its living descendants."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                children.setdefault(_stat(int(folder.name))[1], []).append(int(folder.name))
    found = [pid]
    for one in found:
        found.extend(children.get(one, ()))
    return found


def cpu_s(pid: int) -> float:
    """Processor seconds of one process so far, system and user; 0 if it is gone."""
    try:
        fields = _stat(pid)
    except OSError:
        return 0.0
    return (fields[11] + fields[12]) / _TICKS


def core_s(core: int) -> tuple[float, float]:
    """Seconds that a core was busy, and that it was idle, since the machine started; time that a host took away counts as busy."""
    line = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith(f"cpu{core} "))
    ticks = [int(word) for word in line.split()[1:9]]
    idle = ticks[3] + ticks[4]
    return (sum(ticks) - idle) / _TICKS, idle / _TICKS


def _stat(pid: int) -> list[int]:
    """/proc/<pid>/stat from the third field on, the state (a letter) as 0."""
    text = (Path("/proc") / str(pid) / "stat").read_text().rsplit(") ", 1)[1]
    return [0, *map(int, text.split()[1:])]


def _read(pid: int, name: str, field: int) -> int:
    try:
        return int((Path("/proc") / str(pid) / name).read_text().split()[field])
    except OSError:
        return 0
