"""A compose project under test: what the tests do with it, as they would by hand."""

import json
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from stack.processes import kill_9

ROOT = Path(__file__).resolve().parents[2]
PORTS = ("INFERENCE_PORT", "MLFLOW_PORT", "PREFECT_PORT", "PROMETHEUS_PORT", "ALERTMANAGER_PORT", "GRAFANA_PORT")
NOT_HERE = frozenset({"grafana", "traffic", "init-model"})
"""Not started with the others: dashboards are asked as queries; traffic and the first champion are given by the tests themselves."""
CORE = {"STACK_BUS": "embedded", "STACK_STORE": "process", "STACK_OTLP": ""}
UP_DECIDES = frozenset(
    {"COMPOSE_ENV_FILES", "COMPOSE_PROFILES", "GIT_COMMIT", "MAKEFLAGS", "STACK_BUS", "STACK_OTLP", "STACK_STORE", "STACK_VIEWER"}
)
"""What `make up` says itself, and what it is not to hear from whoever runs the tests."""


class CommandFailed(AssertionError):
    """With everything that the command said."""


@dataclass(frozen=True)
class Stack:
    """One project.

    Attributes:
        project: Its name.
        env: On top of this process's environment, for every command.
        profiles: Which parts it has.
        folder: The checkout that it comes from.
        left_out: Services that the tests do not start with the others.
    """

    project: str
    env: Mapping[str, str]
    profiles: str = "streaming,observability"
    files: Sequence[str] = field(default=("compose.yaml", str(ROOT / "tests" / "stack" / "hurry.yaml")))
    folder: Path = ROOT
    left_out: frozenset[str] = NOT_HERE

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

    @classmethod
    def of_core(cls, scratch: Path, project: str) -> "Stack":
        """The loop with events in a file and features in the service's process."""
        free = cls.of_free_ports(scratch, project)
        return replace(free, env={**free.env, **CORE}, profiles="core")

    def port(self, name: str) -> int:
        return int(self.env[f"{name.upper()}_PORT"])

    def compose(self, *args: str, stdin: str | None = None, timeout_s: float = 600, check: bool = True) -> str:
        """What a `docker compose` command printed. Raises CommandFailed."""
        files = [part for file in self.files for part in ("--file", file)]
        command = ["docker", "compose", *files, "--project-name", self.project, *args]
        env = dict(os.environ) | dict(self.env) | {"COMPOSE_PROFILES": self.profiles}
        return printed(command, self.folder, env, stdin, timeout_s, check)

    def services(self) -> list[str]:
        """Those that the tests start, jobs too."""
        return sorted(set(self.compose("config", "--services").split()) - self.left_out)

    def long_running(self) -> list[str]:
        return [name for name in self.services() if not name.startswith("init-")]

    def build(self) -> None:
        self.compose("build", "--quiet", timeout_s=1800)

    def up(self) -> float:
        """Start all and wait until all are healthy; seconds that it took."""
        began = time.monotonic()
        self.compose("up", "--detach", "--wait", "--wait-timeout", "300", *self.services())
        return time.monotonic() - began

    def make_up(self) -> str:
        """`make up`, which builds, starts all and waits; what it printed. It writes .env, so the folder is a copy. Raises CommandFailed."""
        assert self.folder != ROOT, "the .env of whoever works here stays as it is"
        env = {name: value for name, value in (dict(os.environ) | dict(self.env)).items() if name not in UP_DECIDES}
        env |= {"COMPOSE_PROJECT_NAME": self.project, "COMPOSE_FILE": os.pathsep.join(self.files)}
        command = ["make", "--no-print-directory", "up", f"PROFILE={self.profiles}"]
        return printed(command, self.folder, env, timeout_s=1800)

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

    def model(self) -> dict[str, Any]:
        """What the service says of the model that answers."""
        return dict(asked(f"http://127.0.0.1:{self.port('inference')}/v1/model"))

    def secrets(self) -> dict[str, str]:
        """A digest of every secret, by its path."""
        found = docker(
            *("run", "--rm", "--network", "none", "--user", "0:0", "--volume", f"{self.project}_secrets:/secrets:ro"),
            *(f"{self.project}:local", "sh", "-c", "find /secrets -type f -exec sha256sum {} +"),
        )
        return {path: digest for digest, path in (line.split(maxsplit=1) for line in found.splitlines())}

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


def asked(url: str, body: Any = None) -> Any:
    """What a service answers, as JSON; with a body it is posted."""
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, {"Content-Type": "application/json"}), timeout=30) as answer:
        return json.load(answer)


def docker(*args: str, stdin: str | None = None) -> str:
    """What a `docker` command printed. Raises CommandFailed."""
    return printed(["docker", *args], stdin=stdin)


def printed(
    command: Sequence[str],
    folder: Path = ROOT,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
    timeout_s: float | None = None,
    check: bool = True,
) -> str:
    """What a command printed. Raises CommandFailed."""
    done = subprocess.run(command, cwd=folder, env=env, input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False)
    if check and done.returncode:
        raise CommandFailed(f"{' '.join(command)} left with {done.returncode}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
    return done.stdout
