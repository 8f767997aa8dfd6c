"""Whose turn it is to let time go by in a home: one replay at a time, and traffic that never ends stands aside for a person."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlops_lab.errors import HomeInUse

_GIVES_WAY, _STAYS = b"gives way\n", b"stays    \n"  # of one length: written over each other in one go
_LOOK_EVERY_S = 0.1
_NEXT = "let it finish, or stop it with Ctrl-C; one in the stack that nobody sees ends with `docker compose restart workbench`."
_QUEUE_PATIENCE_S = 2.0


class Turn:
    """Locks in two files of the home, of which the kernel lets go when their holder dies; processes in several containers may share them.

    Args:
        home: The home.
        gives_way: Whether who asks for the turn is let in: see `wanted`.
        patience_s: Seconds to wait for one who gives way; what is under way there is finished first.
    """

    def __init__(self, home: Path, gives_way: bool = False, patience_s: float = 60.0) -> None:
        self._home, self._gives_way, self._patience_s = home, gives_way, patience_s

    @contextmanager
    def mine(self) -> Iterator[None]:
        """Have the turn until the end.

        Raises:
            HomeInUse: Another process has it, or waits for it.
        """
        lock = os.open(self._home / "replay.lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            self._take(lock)
            yield
        finally:
            os.close(lock)

    def wanted(self) -> bool:
        """Whether another process waits for the turn."""
        try:
            with self._waiting():
                return False
        except BlockingIOError:
            return True

    def _take(self, lock: int) -> None:
        try:
            if not self._gives_way and _locked(lock):
                os.pwrite(lock, _STAYS, 0)
                return
            with self._waiting(_QUEUE_PATIENCE_S):
                until = time.monotonic() + self._patience_s
                while not _locked(lock):
                    if self._gives_way or os.pread(lock, 64, 0) != _GIVES_WAY:
                        raise HomeInUse(f"Another process replays in {self._home}.", _NEXT)
                    if time.monotonic() > until:
                        raise HomeInUse(
                            f"The traffic in {self._home} did not stand aside within {self._patience_s:g} s.",
                            "see what it waits for, then try again.",
                        )
                    time.sleep(_LOOK_EVERY_S)
                # Before the queue is let go: who stands in it next reads whether this one gives way.
                os.pwrite(lock, _GIVES_WAY if self._gives_way else _STAYS, 0)
        except BlockingIOError as error:
            raise HomeInUse(f"Another process waits for its turn in {self._home}.", _NEXT) from error

    @contextmanager
    def _waiting(self, patience_s: float = 0.0) -> Iterator[None]:
        """Be the one who waits. Raises BlockingIOError where somebody else does, for longer than one who only looks."""
        queue = os.open(self._home / "replay.next", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            until = time.monotonic() + patience_s
            while not _locked(queue):
                if time.monotonic() >= until:
                    raise BlockingIOError
                time.sleep(_LOOK_EVERY_S)
            yield
        finally:
            os.close(queue)


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
