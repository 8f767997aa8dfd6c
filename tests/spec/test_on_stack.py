"""`lab` on the host of a stack: each command runs in the workbench, with this terminal's or pipe's input, output, exit code and Ctrl-C.

Docker is a small program on the PATH that writes down what it was asked, and runs what is to be executed right here.
"""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mlops_lab.cli.on_stack import repository

ROOT = Path(__file__).resolve().parents[2]

DOCKER = """#!{python}
import json, os, subprocess, sys
folder = os.path.dirname(os.path.abspath(__file__))
told = json.load(open(folder + "/told.json"))
words = sys.argv[1:]
with open(folder + "/asked.jsonl", "a") as file:
    file.write(json.dumps({{"words": words, "folder": os.getcwd()}}) + "\\n")
if words[:2] == ["compose", "ps"]:
    if "--services" in words:
        print("\\n".join(told["running"]))
        print(told["says"], file=sys.stderr)
        sys.exit(told["code"])
    print("SERVICE STATUS")
elif words[:2] == ["compose", "exec"]:
    rest, environment = words[2:], dict(os.environ)
    environment.pop("LAB_TOKEN", None)
    while rest[0].startswith("-"):
        option = rest.pop(0)
        if option == "--env":
            name, _, value = rest.pop(0).partition("=")
            environment[name] = value or os.environ[name]
    environment["PATH"] = folder + "/inside:" + environment["PATH"]
    os.execvpe(rest[1], rest[1:], environment)
"""

LAB = """#!{python}
import os, signal, sys
print("inside", *sys.argv[1:], flush=True)
if sys.argv[1] == "echo":
    sys.stdout.write(sys.stdin.read())
    print("by", os.environ.get("LAB_TOKEN"), "tty", sys.stdin.isatty(), flush=True)
elif sys.argv[1] == "wait":
    try:
        signal.alarm(60)  # ends it where nobody does
        signal.pause()
    except KeyboardInterrupt:
        print("stopped inside", flush=True)
        sys.exit(130)
elif sys.argv[1] == "fail":
    print("what went wrong", file=sys.stderr)
    sys.exit(30)
"""


@dataclass
class Host:
    """A machine with a docker."""

    folder: Path
    told: dict[str, Any] = field(default_factory=lambda: {"running": ["inference", "workbench"], "says": "", "code": 0})

    def __post_init__(self) -> None:
        (self.folder / "inside").mkdir()
        for name, text in (("docker", DOCKER), ("inside/lab", LAB), ("make", DOCKER)):
            (self.folder / name).write_text(text.format(python=sys.executable))
            (self.folder / name).chmod(0o755)
        self.tell()

    def tell(self, **said: Any) -> None:
        self.told |= said
        (self.folder / "told.json").write_text(json.dumps(self.told))

    @property
    def environment(self) -> dict[str, str]:
        path = f"{self.folder}:{os.environ['PATH']}"
        return dict(os.environ) | {"PATH": path, "LAB_PROFILE": "compose", "PYTHONPATH": str(ROOT / "platform"), "LAB_TOKEN": "secret"}

    @property
    def asked(self) -> list[list[str]]:
        file = self.folder / "asked.jsonl"
        return [json.loads(line)["words"] for line in file.read_text().splitlines()] if file.exists() else []

    def lab(self, *words: str, given: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(command(*words), env=self.environment, input=given, capture_output=True, text=True, timeout=60, check=False)


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "mlops_lab.cli.main", *words]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    made = tmp_path / "bin"
    made.mkdir()
    return Host(made)


def test_a_command_runs_in_the_workbench_with_input_output_and_credential(host: Host) -> None:
    done = host.lab("echo", "--json", "two words", given="from the pipe\n")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "inside echo --json two words\nfrom the pipe\nby secret tty False\n"
    assert "-T" in host.asked[-1]
    assert "secret" not in " ".join(host.asked[-1])  # a list of processes shows words, not what variables hold
    assert json.loads((host.folder / "asked.jsonl").read_text().splitlines()[0])["folder"] == str(ROOT)


def test_its_exit_code_and_what_it_says_of_an_error_are_its_own(host: Host) -> None:
    done = host.lab("fail")

    assert (done.returncode, done.stdout, done.stderr) == (30, "inside fail\n", "what went wrong\n")


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_reaches_the_command_and_its_last_words_are_heard(sent: signal.Signals, host: Host) -> None:
    child = subprocess.Popen(command("wait"), env=host.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "inside wait\n"
    time.sleep(0.2)

    child.send_signal(sent)

    assert child.communicate(timeout=30) == ("stopped inside\n", None)
    assert child.returncode == 130


def test_in_a_terminal_docker_has_the_terminal(host: Host) -> None:
    mine, theirs = pty.openpty()
    child = subprocess.Popen(command("echo"), env=host.environment, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    os.write(mine, b"\x04")  # the end of what is typed
    heard = b""
    try:
        while chunk := os.read(mine, 1000):
            heard += chunk
    except OSError:  # how Linux says that the other end is closed
        assert heard
    os.close(mine)

    assert child.wait(30) == 0
    assert b"by secret tty True" in heard
    assert "-T" not in host.asked[-1]


def test_status_begins_with_the_containers(host: Host) -> None:
    assert host.lab("status").stdout == "SERVICE STATUS\ninside status\n"

    done = host.lab("status", "--json")
    assert (done.stdout, done.stderr) == ("inside status --json\n", "SERVICE STATUS\n")


def a_docker_that_fails(host: Host) -> None:
    host.tell(code=1, says="warning\npermission denied: /var/run/docker.sock", running=[])


def no_docker(host: Host) -> None:
    (host.folder / "docker").unlink()


@pytest.mark.parametrize(
    ("broken", "what", "next_step"),
    [
        (no_docker, "no docker on this machine's PATH", "install Docker Engine"),
        (a_docker_that_fails, "permission denied: /var/run/docker.sock", "`docker info`"),
        (lambda host: host.tell(running=[]), "The stack does not run.", "`make up`"),
        (lambda host: host.tell(running=["inference"]), "without its workbench", "`docker compose up --detach workbench`"),
    ],
)
def test_what_is_missing_is_said_with_the_way_out(broken: Callable[[Host], None], what: str, next_step: str, host: Host) -> None:
    broken(host)
    environment = host.environment | {"PATH": str(host.folder)}  # no other docker of this machine

    done = subprocess.run(command("history"), env=environment, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 50
    first, second = done.stderr.splitlines()[0], done.stderr.splitlines()[-1]
    assert what in first
    assert second.startswith("Next: ")
    assert next_step in second
    assert not any("exec" in words for words in host.asked)


def test_up_and_down_are_those_of_the_stack(host: Host) -> None:
    (host.folder / "asked.jsonl").unlink(missing_ok=True)

    assert host.lab("up").returncode == host.lab("down").returncode == 0
    assert host.asked[0][0] == "up"
    assert host.asked[1] == ["compose", "--profile", "*", "down"]
    refused = host.lab("up", "--replicas", "2")
    assert (refused.returncode, len(host.asked)) == (2, 2)
    assert "`make up PROFILE=streaming`" in refused.stderr


def test_up_keeps_the_profile_that_was_chosen_last(tmp_path: Path) -> None:
    from mlops_lab.cli.on_stack import _chosen_profile

    assert _chosen_profile(tmp_path / ".env") == ""
    (tmp_path / ".env").write_text("COMPOSE_PROFILES=core\nSTACK_BUS=kafka\nCOMPOSE_PROFILES=streaming,observability\n")
    assert _chosen_profile(tmp_path / ".env") == "streaming,observability"


@pytest.mark.parametrize("words", [[], ["--help"], ["replay", "--help"], ["--version"]])
def test_what_a_command_is_for_is_told_without_a_stack(words: list[str], host: Host) -> None:
    done = host.lab(*words)

    assert done.returncode == 0
    assert "lab" in done.stdout
    assert host.asked == []


def test_on_the_host_nothing_of_the_platform_is_loaded(host: Host) -> None:
    code = "import sys; from mlops_lab.cli.main import run; run(['echo']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=host.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
    )
    loaded = {name.partition(".")[0] for name in done.stderr.split()}
    assert not {"pydantic", "numpy", "pandas", "rich", "sqlalchemy"} & loaded


def test_the_stack_is_found_from_anywhere() -> None:
    assert repository() == ROOT
