"""Calls that cannot be interrupted, with a deadline all the same: a thread makes them, and whoever waits goes on without the answer."""

import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TypeVar

T = TypeVar("T")


class TooLate(Exception):
    """There was no answer in time, or an earlier call still hangs."""


class Aside:
    """Makes calls on a thread of its own, one at a time. Asked from one thread.

    A call that is too late is not ended: until it ends by itself, further ones are refused at once.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: SimpleQueue[tuple[int, Callable[[], object]] | None] = SimpleQueue()
        self._done: SimpleQueue[tuple[int, object, Exception | None]] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._number = 0
        self._hanging = False

    @property
    def hangs(self) -> bool:
        """Whether a call that was too late has still not ended."""
        if self._hanging:
            with suppress(Empty):
                self._hanging = self._done.get_nowait()[0] != self._number
        return self._hanging

    def call(self, job: Callable[[], T], patience_s: float) -> T:
        """What the job returns or raises. Raises TooLate."""
        if self.hangs:
            raise TooLate("an earlier call still hangs")
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        self._number += 1
        self._jobs.put((self._number, job))
        try:
            _, found, error = self._done.get(timeout=patience_s)
        except Empty:
            self._hanging = True
            raise TooLate(f"no answer within {patience_s * 1000:.0f} ms") from None
        if error is not None:
            raise error
        return found  # type: ignore[return-value]  # what the job returned

    def end(self, last: Callable[[], None]) -> None:
        """End the thread behind a last job; one that hangs ends later, or with the process."""
        self._number += 1
        self._jobs.put((self._number, last))
        self._jobs.put(None)

    def _work(self) -> None:
        while (asked := self._jobs.get()) is not None:
            number, job = asked
            try:
                self._done.put((number, job(), None))
            except Exception as error:  # raised in the thread that asked
                self._done.put((number, None, error))
