"""The thread that flushes the prediction log while the event loop goes on."""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable

from mlops_lab.errors import LogUnwritable
from mlops_lab.serving.call import Asker, Call

_log = logging.getLogger(__name__)


class Disk:
    """Flushes the log on a thread of its own. All that is written while one flush runs shares the next.

    A failed flush also fails what the event loop wrote before it hears of it, since the next flush may succeed whatever this one lost
    (see `PredictionLog.sync`).
    """

    def __init__(
        self,
        sync: Callable[[], None],
        loop: asyncio.AbstractEventLoop,
        done: Callable[[list[Call], list[Asker], LogUnwritable | None], None],
    ) -> None:
        self._sync, self._loop, self._done = sync, loop, done
        self._pending: deque[tuple[list[Call], list[Asker]]] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._heard = True  # the loop, of the last failure
        self.waiting = 0
        self._thread = threading.Thread(target=self._run, name="disk", daemon=True)
        self._thread.start()

    def flush(self, calls: list[Call], askers: list[Asker]) -> None:
        """Called by the event loop, after the calls' records were written."""
        self.waiting += len(calls)
        with self._changed:
            self._pending.append((calls, askers))
            self._changed.notify()

    def stop(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._pending and not self._stopping:
                    self._changed.wait()
                if not self._pending:
                    return
                batches = list(self._pending)
                self._pending.clear()
            error = None
            try:
                self._sync()
            except LogUnwritable as failed:
                error = failed
            except Exception as failed:
                _log.exception("serving.flush_failed")
                error = LogUnwritable.at("the prediction log", repr(failed))
            if error is None:
                self._loop.call_soon_threadsafe(self._answer, batches, None)
                continue
            with self._changed:
                self._heard = False
                self._loop.call_soon_threadsafe(self._refuse, batches, error)
                while not self._heard and not self._stopping:
                    self._changed.wait()
                if not self._heard:
                    return  # `_refuse` takes what is left

    def _refuse(self, batches: list[tuple[list[Call], list[Asker]]], error: LogUnwritable) -> None:
        """By the event loop, so that nothing is between its record and its place in the queue."""
        with self._changed:
            batches = [*batches, *self._pending]
            self._pending.clear()
            self._heard = True
            self._changed.notify()
        self._answer(batches, error)

    def _answer(self, batches: list[tuple[list[Call], list[Asker]]], error: LogUnwritable | None) -> None:
        self.waiting -= sum(len(calls) for calls, _ in batches)
        for calls, askers in batches:
            self._done(calls, askers, error)
