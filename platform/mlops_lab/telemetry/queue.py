"""Between those who make spans and whoever sends them: bounded, never waited for. What is lost is counted."""

import atexit
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")

_log = logging.getLogger(__name__)


class Queue(Generic[T]):
    """Hands items in batches to a thread of its own, which begins by making its sender: that may import what takes a while.

    (The SDK's batch processors drop what does not fit without a count that can be read.)
    """

    def __init__(
        self, name: str, make: Callable[[], Callable[[Sequence[T]], bool]], *, most: int = 4096, batch: int = 512, every_s: float = 1.0
    ) -> None:
        """Args:
        name: Of what is sent, for the log.
        make: Gives what sends a batch: False or an error where it could not. Both are called by the thread.
        most: Items that may wait; one more is dropped.
        batch: Items per call at most; as many that wait are sent at once.
        every_s: Pause before fewer are sent.
        """
        self._name = name
        self._make = make
        self._send: Callable[[Sequence[T]], bool] | None = None
        self._most = most
        self._batch = batch
        self._every_s = every_s
        self._waiting: deque[T] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._failing = False
        self.dropped = 0
        """Items that did not fit or could not be sent."""
        self._thread = threading.Thread(target=self._run, name=f"telemetry-{name}", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def put(self, item: T) -> None:
        """Take an item, or drop it. Never waits, never raises."""
        with self._changed:
            if self._closing or len(self._waiting) >= self._most:
                self.dropped += 1
                return
            self._waiting.append(item)
            if len(self._waiting) >= self._batch:
                self._changed.notify()

    def close(self, wait_s: float = 2.0) -> None:
        """Send what waits, for a moment: the end of a process does not wait for a collector that is down."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(wait_s)

    def _run(self) -> None:
        self._try([])
        while True:
            with self._changed:
                if not self._closing and len(self._waiting) < self._batch:
                    self._changed.wait(self._every_s)
                batch = [self._waiting.popleft() for _ in range(min(self._batch, len(self._waiting)))]
                if not batch and self._closing:
                    return
            if batch:
                self._try(batch)

    def _try(self, batch: Sequence[T]) -> None:
        why = "it was not taken"
        try:
            if self._send is None:
                self._send = self._make()
            sent = not batch or self._send(batch)
        except Exception as error:
            sent, why = False, repr(error)
        if not sent:
            with self._changed:
                self.dropped += len(batch)
        if sent == self._failing:  # said when it begins and when it ends
            self._failing = not sent
            if sent:
                _log.info("telemetry.sent_again", extra={"what": self._name})
            else:
                _log.warning("telemetry.not_sent", extra={"what": self._name, "why": why})
