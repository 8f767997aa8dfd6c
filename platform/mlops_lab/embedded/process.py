"""Which processes are ours. A pid alone is no identity, since the kernel hands it out again; a pid with its start time is.

Each process that is started carries `MLOPS_LAB_SUPERVISED=<home>|<name>|<digest>` in its environment, and so do its children. Where the
system shows environments (Linux), what is ours is found even if whoever started it died before it could write down the pid.
"""

import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MARK = "MLOPS_LAB_SUPERVISED"
"""Not a LAB_ name: those are settings, and a service refuses one that it does not know."""
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Identity:
    """A process, and not its successor under the same pid. `started` is an opaque text of the system: boot and ticks, or a date."""

    pid: int
    started: str


@dataclass(frozen=True, slots=True)
class Marked:
    """A living process found by its mark. `leads` says that it leads its session: it is what was started, not a child of it."""

    identity: Identity
    name: str
    digest: str
    leads: bool


def mark(home: Path, name: str, digest: str) -> str:
    return f"{home}|{name}|{digest}"


def identify(pid: int) -> Identity | None:
    """The living process with this pid, or None. A zombie is not alive; one that is our child is reaped on the way."""
    _reap(pid)
    if _PROC.joinpath("self", "stat").exists():
        fields = _stat(pid)
        return None if fields is None or fields[0] in "ZX" else Identity(pid, f"{_boot()}:{fields[19]}")
    said = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout.split(
        maxsplit=1
    )
    return None if len(said) < 2 or said[0].startswith("Z") else Identity(pid, said[1].strip())


def alive(identity: Identity) -> bool:
    return identify(identity.pid) == identity


def marked(home: Path) -> Iterator[Marked]:
    """Every living process that carries the mark of this home, but this one. Empty where the system hides environments."""
    wanted = f"{MARK}={home}|".encode()
    for folder in _PROC.iterdir() if _PROC.is_dir() else ():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            environment = (folder / "environ").read_bytes()
        except OSError:  # gone in the meantime, or another user's: in both cases not ours to touch
            continue
        found = next((entry for entry in environment.split(b"\0") if entry.startswith(wanted)), None)
        if found is None:
            continue
        pid = int(folder.name)
        identity, fields = identify(pid), _stat(pid)
        if identity is not None and fields is not None:
            name, _, digest = found[len(wanted) :].decode(errors="replace").partition("|")
            yield Marked(identity, name, digest, leads=int(fields[3]) == pid)


def spawn(argv: tuple[str, ...], env: dict[str, str], log: Path) -> Identity:
    """Start a program in a session of its own, its output appended to `log`; it outlives this process. Raises OSError."""
    pid = os.posix_spawn(
        argv[0],
        argv,
        env,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
        # A shell that runs `lab up &` ignores Ctrl-C on behalf of its jobs; a service must not inherit that.
        setsigdef=[signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE],
        setsigmask=[],
    )
    return identify(pid) or Identity(pid, "gone at once")


def signal_group(leader: Identity, number: signal.Signals) -> None:
    """Signal a session leader and its process group, if the leader is still the process that we know. A dead one is no error."""
    if alive(leader):
        try:
            os.killpg(leader.pid, number)
        except ProcessLookupError:
            return


def signal_one(identity: Identity, number: signal.Signals) -> None:
    """Signal one process, if it is still the one that we know."""
    if alive(identity):
        try:
            os.kill(identity.pid, number)
        except ProcessLookupError:
            return


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:  # somebody else's child: init reaps it
        return


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/<pid>/stat from the third on (state, ppid, group, session, ...; [19] is the start in ticks), or None."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    return text[text.rindex(")") + 2 :].split()  # the second field is the name, which may hold spaces and brackets


def _boot() -> str:
    # Ticks count from the boot: without its id a process of the last boot could be taken for one of this.
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text().strip()[:8]
    except OSError:
        return "boot"
