"""Room for a new run of the demo, and the lock that says whether one is under way."""

import fcntl
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mlops_lab.embedded import Supervisor
from mlops_lab.errors import HomeInUse

LOCK = "demo.lock"


def fresh_home(home: Path, say: Callable[[str], None]) -> None:
    """Make room for a new run: what an earlier one left is kept once, beside it, as `<home>.previous`.

    Services that a killed demo left running are stopped first; those of somebody who said `lab up` are not.

    Raises:
        HomeInUse: Another demo is under way there, or its services were started by hand.
    """
    supervisor = Supervisor(home)
    running = [status.name for status in supervisor.status() if status.pid]
    if _lock_is_held(home / LOCK):
        raise HomeInUse(f"Another demo is under way in {home}.", "wait for it, or choose another home with LAB_HOME.")
    if running and not (home / LOCK).exists():
        raise HomeInUse(f"{', '.join(running)} of {home} still run.", "stop them with `lab down`, then run the demo again.")
    if running:
        say("An earlier demo was killed; stopping what it left behind.")
        supervisor.down()
    previous = home.with_name(f"{home.name}.previous")
    if home.exists():
        shutil.rmtree(previous, ignore_errors=True)
        home.rename(previous)
        say(f"What was in {home} is kept in {previous} until the next run.")
    home.mkdir(parents=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file while the story runs. The kernel lets go of the lock when its holder dies, and the file stays to say so."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            yield
        finally:  # also after an error or Ctrl-C: only a demo that was killed leaves the file
            path.unlink(missing_ok=True)


def _lock_is_held(path: Path) -> bool:
    if not path.exists():
        return False
    with path.open("r") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
