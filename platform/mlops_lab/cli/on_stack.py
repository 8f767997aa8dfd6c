"""`lab` on the host of a stack (LAB_PROFILE=compose): each command runs in its workbench, as if it ran here. Light: loads no stage."""

import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path

from mlops_lab.errors import ServiceError, UsageError

WORKBENCH = "workbench"
HANDED_ON = ("LAB_TOKEN",)
"""Variables that a command finds in there, too: who is at the keyboard. Everything else is as the stack's own files say."""

_HERE = ("-h", "--help", "--version")
_CALL = "CALL_OF_LAB"
"""Variable by which the processes of one call are found in the container."""
_INTERRUPT = 'for each in /proc/[0-9]*; do grep -qsz "^$0$" "${each}/environ" && kill -INT "${each#/proc/}"; done; true'


def is_for_stack(arguments: Sequence[str]) -> bool:
    """Whether a command line needs the stack; what a command is for is told without one."""
    return bool(arguments) and not set(arguments) & set(_HERE)


def run_on_stack(arguments: Sequence[str]) -> int:
    """Run one command line there, with this terminal's or pipe's input and output; returns its exit code.

    `up` and `down` are `make up` with the profile chosen last, and `docker compose down`. `status` begins with the containers.

    Raises:
        ServiceError: There is no Docker, or no stack that runs.
        UsageError: `up` or `down` with more words than that.
    """
    folder, command = repository(), next((word for word in arguments if not word.startswith("-")), "")
    docker = _docker()
    if command in ("up", "down"):
        return _up_or_down(command, arguments, folder, docker)
    compose = [docker, "compose"]
    _require_workbench(compose, folder)
    if command == "status":
        # To standard error with --json: the document is for the program alone.
        out = sys.stderr if "--json" in arguments else sys.stdout
        sys.stdout.flush()
        subprocess.run([*compose, "ps", "--all", "--format", "table {{.Service}}\t{{.Status}}"], cwd=folder, stdout=out, check=False)
    handed = [word for name in HANDED_ON if name in os.environ for word in ("--env", name)]  # the value is in no list of processes
    if sys.stdin.isatty() and sys.stdout.isatty():
        return _in_terminal([*compose, "exec", *handed, WORKBENCH, "lab", *arguments], folder)
    return _in_pipe(compose, handed, arguments, folder)


def repository() -> Path:
    """The folder of the stack's compose.yaml: this checkout's, else the nearest around the present folder. Raises UsageError."""
    for folder in (Path(__file__).resolve().parents[3], Path.cwd(), *Path.cwd().parents):
        if (folder / "compose.yaml").is_file() and (folder / "platform" / "deploy" / "compose").is_dir():
            return folder
    raise UsageError(
        "LAB_PROFILE=compose, and there is no stack here: no folder around this one has its compose.yaml.",
        "go to the repository's folder, or unset LAB_PROFILE for the embedded platform.",
    )


def _docker() -> str:
    found = shutil.which("docker")
    if found is None:
        raise ServiceError(
            "LAB_PROFILE=compose, and there is no docker on this machine's PATH.",
            "install Docker Engine with its compose plugin, or unset LAB_PROFILE for the embedded platform.",
        )
    return found


def _require_workbench(compose: Sequence[str], folder: Path) -> None:
    asked = subprocess.run([*compose, "ps", "--services", "--status", "running"], cwd=folder, capture_output=True, text=True, check=False)
    if asked.returncode:
        said = asked.stderr.strip().splitlines()
        raise ServiceError(
            f"Docker does not tell what runs: {said[-1] if said else f'exit code {asked.returncode}'}",
            "see that `docker info` and `docker compose version` work for you without sudo.",
        )
    running = asked.stdout.split()
    if not running:
        raise ServiceError("The stack does not run.", "start it with `make up`; or unset LAB_PROFILE for the embedded platform.")
    if WORKBENCH not in running:
        raise ServiceError(
            f"The stack runs without its {WORKBENCH}, in which commands are carried out.", f"`docker compose up --detach {WORKBENCH}`."
        )


def _up_or_down(command: str, arguments: Sequence[str], folder: Path, docker: str) -> int:
    if len(arguments) != 1:
        raise UsageError(
            f"`lab {command}` of a stack takes nothing else.",
            "which parts run is said by `make up PROFILE=streaming` (core, streaming, observability, all).",
        )
    if command == "down":
        return subprocess.run([docker, "compose", "--profile", "*", "down"], cwd=folder, check=False).returncode
    make = shutil.which("make")
    if make is None:
        raise ServiceError("There is no make on this machine's PATH.", "install make, or use `docker compose up --detach --wait`.")
    profile = _chosen_profile(folder / ".env")
    return subprocess.run([make, "up", *([f"PROFILE={profile}"] if profile else [])], cwd=folder, check=False).returncode


def _chosen_profile(env: Path) -> str:
    """What `make up` was last told; empty where it never ran. Without it `lab up` would go back to the smallest stack."""
    lines = env.read_text(encoding="utf-8").splitlines() if env.is_file() else []
    return next((line.partition("=")[2].strip() for line in reversed(lines) if line.startswith("COMPOSE_PROFILES=")), "")


def _in_terminal(command: Sequence[str], folder: Path) -> int:
    """Docker hands each key on, Ctrl-C among them; here it is only to be survived."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return subprocess.Popen(command, cwd=folder).wait()
    finally:
        signal.signal(signal.SIGINT, before)


def _in_pipe(compose: Sequence[str], handed: Sequence[str], arguments: Sequence[str], folder: Path) -> int:
    """Without a terminal, Docker leaves the command running when its own client is interrupted. So the client, in a session of its own,
    does not hear of Ctrl-C; the command is told, and what it still says and its exit code come as always."""
    sys.stdout.flush()
    call = f"{_CALL}={uuid.uuid4().hex}"
    command = [*compose, "exec", "-T", "--env", call, *handed, WORKBENCH, "lab", *arguments]
    client = subprocess.Popen(command, cwd=folder, start_new_session=True)

    def tell(number: int, frame: object) -> None:
        words = [*compose, "exec", "-T", WORKBENCH, "sh", "-c", _INTERRUPT, call]
        subprocess.Popen(words, cwd=folder, stdin=subprocess.DEVNULL, start_new_session=True)

    before = {number: signal.signal(number, tell) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return client.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
