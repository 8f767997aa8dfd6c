"""Which process of this machine is a container's. The engine may count those of another machine, whose numbers mean strangers here."""

import os
from pathlib import Path

PROC = Path("/proc")
SAYS_WHOSE = ("cgroup", "mountinfo")
"""Either may hold the container's id, by how the engine is set up; a process that is root's shows the second to root only."""


def kill_9(pid: int, container: str, proc: Path = PROC) -> None:
    """Kill the first process of a container from outside, as the kernel would.

    Args:
        pid: What the engine says.
        container: Its whole id.
        proc: Where the kernel tells of processes.

    Raises:
        AssertionError: It is not known here as that container's, or this user may not kill it. Nothing was killed then.
    """
    said = [_read(proc / str(pid) / name) for name in SAYS_WHOSE]
    assert any(container in text for text in said), (
        f"Process {pid} of this machine is not known to be container {container[:12]}'s: nothing was killed.\n"
        "Next: run the tests as root, on the machine on which the engine runs; those of Docker Desktop and DOCKER_HOST are elsewhere."
    )
    try:
        os.kill(pid, 9)
    except PermissionError as error:
        raise AssertionError(f"Process {pid} may not be killed by this user.\nNext: run the tests as root.") from error


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:  # no such process, or somebody else's
        return ""
