"""Keeps requests away from a store that does not answer, and tries it again aside, so that a store that is down costs them nothing."""

import logging
import threading
from collections.abc import Callable
from time import monotonic

from mlops_lab.errors import FeatureStoreUnreachable

EVERY_S = 1.0

_log = logging.getLogger(__name__)


class Breaker:
    """Open at first. `revive` is tried on a thread of its own until it succeeds, at most once a second; then the breaker is closed."""

    def __init__(self, revive: Callable[[], None], where: str, every_s: float = EVERY_S) -> None:
        """Args:
        revive: Makes the store usable again, or raises FeatureStoreUnreachable. May take its time.
        where: The store's address without secrets.
        every_s: Time between the beginnings of two tries.
        """
        self._revive = revive
        self._every_s = every_s
        self._tried_at = -every_s
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._ended = False
        self._error: FeatureStoreUnreachable | None = FeatureStoreUnreachable.at(where, "it was not asked yet")

    def require(self) -> None:
        """Raises FeatureStoreUnreachable while the store is down: what was said when it was last tried."""
        former = self._error
        if former is not None:
            self._start()
            error = FeatureStoreUnreachable(former.what, former.next_step)
            error.reason, error.unasked = former.reason, True
            raise error

    def open(self, error: FeatureStoreUnreachable) -> None:
        """It does not answer. The next try is at once where the last one is a while ago: a restart is over soon."""
        with self._changed:
            self._error = error
            self._changed.notify_all()
        self._start()

    def wait(self, patience_s: float) -> None:
        """Wait for the store, for those who have the time: at the start of a process. Raises FeatureStoreUnreachable."""
        if self._error is not None:
            self._start()
            with self._changed:
                self._changed.wait_for(lambda: self._error is None, patience_s)
        if self._error is not None:
            raise self._error.with_traceback(None)

    def end(self) -> None:
        """No more tries."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._try, name="features-reviver", daemon=True)
            self._thread.start()

    def _try(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._error is not None or self._ended)
                while not self._ended and (pause_s := self._tried_at + self._every_s - monotonic()) > 0:
                    self._changed.wait(pause_s)
                if self._ended:
                    return
            self._tried_at = monotonic()
            error: FeatureStoreUnreachable | None = None
            try:
                self._revive()
            except FeatureStoreUnreachable as failed:
                error = failed
            except Exception as failed:
                _log.exception("features.reviving_failed")
                error = FeatureStoreUnreachable.at("its address", repr(failed))
            with self._changed:
                self._error = error
                self._changed.notify_all()
