"""What a home's replicas depend on is taken away for a while: the ledger or the bus in three ways, and the package store."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from mlops_lab.chaos.world import Home, World

Seen = TypeVar("Seen")

_LEDGER = "lab.db"


@contextmanager
def moved_away(home: Home, database: str = _LEDGER) -> Iterator[None]:
    """A database's files are somewhere else. A process that has them open still reads them; one that starts finds nothing."""
    aside = home.path / "away"
    aside.mkdir()
    for path in home.path.glob(f"{database}*"):
        path.rename(aside / path.name)
    try:
        yield
    finally:
        for path in home.path.glob(f"{database}*"):  # what somebody made in its place
            path.unlink()
        for path in aside.iterdir():
            path.rename(home.path / path.name)
        aside.rmdir()


@contextmanager
def overwritten(home: Home, database: str = _LEDGER) -> Iterator[None]:
    """A database's files are there and open, and what is in them is no database."""
    files = {path: path.read_bytes() for path in home.path.glob(f"{database}*")}
    for path, content in files.items():
        _put(path, b"\xa5" * min(len(content), 65536))  # in place and no shorter: the process has them open and mapped
    try:
        yield
    finally:
        for path, content in files.items():
            # The index of the write-ahead log is left without a header, so that the next reader makes it anew.
            _put(path, bytes(136) if path.name.endswith("-shm") else content)


@contextmanager
def locked(home: Home, database: str = _LEDGER) -> Iterator[None]:
    """Another process holds every lock that a reader needs."""
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(home.path / f"{database}-shm")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        yield
    finally:
        holder.kill()
        holder.communicate()


_HOLD = """
import fcntl, sys
file = open(sys.argv[1], "r+b")
fcntl.lockf(file, fcntl.LOCK_EX, 8, 120)  # SQLite's eight locks on a write-ahead log
print("held", flush=True)
sys.stdin.read()
"""


def _put(path: Path, content: bytes) -> None:
    with path.open("r+b") as file:
        file.write(content)


WAYS = {"overwritten": overwritten, "locked": locked, "moved away": moved_away}


def in_each_way(world: World, take_away: Callable[[Home, str], Seen]) -> list[Seen]:
    """Take a database away in each of the WAYS, named to `take_away`; each in a home of its own, beside each other, since most of it is
    waiting. Returns what each came to, in their order."""
    homes = [world.home() for _ in WAYS]
    with ThreadPoolExecutor(len(homes)) as pool:
        return list(pool.map(take_away, homes, WAYS))


@contextmanager
def store_away(home: Home) -> Iterator[None]:
    """The package store is gone."""
    packages, aside = home.path / "packages", home.path / "packages-gone"
    packages.rename(aside)
    try:
        yield
    finally:
        shutil.rmtree(packages, ignore_errors=True)  # what somebody made in its place
        aside.rename(packages)
