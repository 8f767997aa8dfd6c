"""A compose project under test: what the tests do with it, as they would by hand."""

import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stack.processes import kill_9

ROOT = Path(__file__).resolve().parents[2]
PORTS = ("INFERENCE_PORT", "MLFLOW_PORT", "PREFECT_PORT", "PROMETHEUS_PORT", "ALERTMANAGER_PORT", "GRAFANA_PORT")
NOT_HERE = frozenset({"grafana", "traffic", "init-model"})
"""Not started with the others: dashboards are asked as queries; traffic and the first champion are given by the tests themselves."""


class CommandFailed(AssertionError):
    """With everything that the command said."""


@dataclass(frozen=True)
class Stack:
    """One project.

    Attributes:
        project: Its name.
        env: On top of this process's environment, for every command.
        profiles: Which parts it has.
    """

    project: str
    env: Mapping[str, str]
    profiles: str = "streaming,observability"
    files: Sequence[str] = field(default=("compose.yaml", "tests/stack/hurry.yaml"))

    @classmethod
    def of_free_ports(cls, scratch: Path, project: str = "mlops-lab-test") -> "Stack":
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in PORTS]
        ports = {name: str(one.getsockname()[1]) for name, one in zip(PORTS, sockets, strict=True)}
        for one in sockets:
            one.close()
        empty = scratch / "empty.env"  # the .env of somebody who works in this checkout says nothing here
        empty.touch()
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
        own = {"COMPOSE_ENV_FILES": str(empty), "STACK_BUS": "kafka", "STACK_STORE": "redis", "GIT_COMMIT": commit}
        own |= {"STACK_OTLP": "http://otel-collector:4318", "TRACE_SAMPLE": "0.05"}
        return cls(project, ports | own)

    def port(self, name: str) -> int:
        return int(self.env[f"{name.upper()}_PORT"])

    def compose(self, *args: str, stdin: str | None = None, timeout_s: float = 600, check: bool = True) -> str:
        """What a `docker compose` command printed. Raises CommandFailed."""
        files = [part for file in self.files for part in ("--file", file)]
        command = ["docker", "compose", *files, "--project-name", self.project, *args]
        env = dict(os.environ) | dict(self.env) | {"COMPOSE_PROFILES": self.profiles}
        done = subprocess.run(command, cwd=ROOT, env=env, input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False)
        if check and done.returncode:
            raise CommandFailed(f"{' '.join(command)} left with {done.returncode}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
        return done.stdout

    def services(self) -> list[str]:
        """Those that the tests start, jobs too."""
        return sorted(set(self.compose("config", "--services").split()) - NOT_HERE)

    def long_running(self) -> list[str]:
        return [name for name in self.services() if not name.startswith("init-")]

    def build(self) -> None:
        self.compose("build", "--quiet", timeout_s=1800)

    def up(self) -> float:
        """Start all and wait until all are healthy; seconds that it took."""
        began = time.monotonic()
        self.compose("up", "--detach", "--wait", "--wait-timeout", "300", *self.services())
        return time.monotonic() - began

    def down(self, *, volumes: bool = False) -> None:
        """Stop all of it. What stays behind would be the beginning of the next run, so a failure is one here. Raises CommandFailed."""
        self.compose("--profile", "*", "down", "--remove-orphans", *(["--volumes"] if volumes else []))

    def keep_logs(self, folder: Path) -> None:
        """What every container said, for whoever reads a failure."""
        target = ROOT / folder
        target.mkdir(parents=True, exist_ok=True)
        (target / "containers.log").write_text(self.compose("logs", "--no-color", "--timestamps", check=False), encoding="utf-8")

    def lab(self, *args: str, timeout_s: float = 600, check: bool = True) -> str:
        """A `lab` command, as somebody at the workbench gives it."""
        return self.compose("exec", "--no-TTY", "workbench", "lab", *args, timeout_s=timeout_s, check=check)

    def said(self, *args: str, timeout_s: float = 600) -> Any:
        """The same with --json."""
        return json.loads(self.lab("--json", *args, timeout_s=timeout_s))

    def python(self, program: str, *args: str, service: str = "workbench", timeout_s: float = 900) -> str:
        """Run a program in a container, with the platform importable."""
        return self.compose("exec", "--no-TTY", service, "python", "-", *args, stdin=program, timeout_s=timeout_s)

    def state(self, service: str) -> dict[str, Any]:
        """What the engine says of a service's container."""
        found = json.loads(subprocess.run(["docker", "inspect", self.container(service)], capture_output=True, check=True).stdout)
        return dict(found[0])

    def container(self, service: str) -> str:
        identifier = self.compose("ps", "--all", "--quiet", service).strip()
        assert identifier, f"there is no container of {service}"
        return identifier

    def kill_9(self, service: str) -> None:
        """As the kernel would: `docker kill` counts as wanted, and nothing would start it again. Raises AssertionError."""
        runs = until(lambda: self.state(service), lambda state: int(state["State"]["Pid"]) > 1, 120, f"{service} does not run")
        kill_9(int(runs["State"]["Pid"]), runs["Id"])  # 0 is what the engine says of a container that is being started again

    def started(self, service: str) -> str:
        """When its container was started the last time, by the engine's clock; another start is another text."""
        return str(self.state(service)["State"]["StartedAt"])

    def healthy(self, service: str) -> bool:
        state = self.state(service)["State"]
        return bool(state["Running"] and state.get("Health", {"Status": "healthy"})["Status"] == "healthy")

    def wait_whole(self, timeout_s: float = 180) -> None:
        """Until every service runs and is healthy, without anybody's help."""
        until(lambda: [name for name in self.long_running() if not self.healthy(name)], lambda sick: not sick, timeout_s, "unhealthy")


def until(look: Callable[[], Any], holds: Callable[[Any], bool], timeout_s: float, what: str, every_s: float = 1.0) -> Any:
    """Look again and again until it holds; what was seen then. Raises AssertionError with the last look."""
    end = time.monotonic() + timeout_s
    while True:
        seen = look()
        if holds(seen):
            return seen
        assert time.monotonic() < end, f"after {timeout_s:.0f} s: {what}: {seen}"
        time.sleep(every_s)


def docker(*args: str, stdin: str | None = None) -> str:
    """What a `docker` command printed. Raises CommandFailed."""
    done = subprocess.run(["docker", *args], input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CommandFailed(f"docker {' '.join(args)} left with {done.returncode}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
    return done.stdout
