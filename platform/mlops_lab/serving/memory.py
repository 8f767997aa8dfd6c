"""What a replica remembers: what the ledger said last, when, and who was champion here; kept on disk for a start without the ledger."""

import logging
import threading
import time
from dataclasses import replace
from datetime import datetime
from typing import Any

from mlops_lab.clock import Clock, from_iso, iso
from mlops_lab.registry.ledger import Standing
from mlops_lab.registry.version import Assignment
from mlops_lab.serving.known import Known, KnownFile, Served
from mlops_lab.serving.loaded import Loaded

_WRITE_EVERY_S = 30.0
_KEPT_FOR_ROLLBACK = 3

_log = logging.getLogger(__name__)


class Memory:
    """The `Known` of this process and of its file. What changes it takes the follower's lock.

    Attributes:
        known: What was heard and served; None while nothing is, and after the ledger took the champion away.
        known_at: Wall time at which the ledger was heard last, by this process or an earlier one.
        heard_at: The same by the monotonic clock, only where this process heard it.
    """

    def __init__(self, file: KnownFile, clock: Clock, lock: threading.RLock) -> None:
        self._file = file
        self._clock = clock
        self._lock = lock
        self._written_at = 0.0
        self.known: Known | None = None
        self.known_at: datetime | None = None
        self.heard_at: float | None = None

    @property
    def age_s(self) -> float | None:
        """Since the ledger was last heard: by the monotonic clock where this process heard it, else by the wall clock. None: never."""
        if self.heard_at is not None:
            return time.monotonic() - self.heard_at
        return None if self.known_at is None else max((self._clock.now() - self.known_at).total_seconds(), 0.0)

    def read(self) -> Known | None:
        """Recall what the file says; None where it says nothing that can be used."""
        with self._lock:
            self.known = self._file.read()
            try:
                self.known_at = None if self.known is None else from_iso(self.known.known_at)
            except ValueError as error:
                _log.error("serving.state_unreadable", extra={"why": str(error)})
                self.known = None
            return self.known

    def heard(self, began: float) -> None:
        """The ledger answered what it was asked at this moment of the monotonic clock."""
        with self._lock:
            self.heard_at, self.known_at = began, self._clock.now()

    def note(self, standing: Standing) -> None:
        """Keep the bars, which pins are settled, and the ways back, for a time without the ledger."""
        with self._lock:
            if self.known is None:
                return
            told = replace(self.known, barred=tuple(sorted(standing.barred)), settled=tuple(sorted(standing.pins)))
            told = told.also(served(line, standing) for line in standing.earlier)
            if told != self.known:
                self.known = told
                self._write()

    def champion(self, loaded: Loaded, **changes: Any) -> None:
        """Somebody answers from now on; changes are of the fields of `Known`."""
        with self._lock:
            now = Served(loaded.version, loaded.assignment, iso(loaded.assigned_at), loaded.scorer_sha256)
            at = iso(self.known_at or self._clock.now())
            base = self.known or Known(loaded.model, now.version, now.assignment, now.assigned_at, now.scorer_sha256, at)
            self.known = base.then(now, **changes)
            self._write()

    def forget(self) -> None:
        """Nobody answers any more."""
        with self._lock:
            self.known = None
            self._file.forget()

    def write_now_and_then(self) -> None:
        """Let the file keep up with when the ledger was heard, without a write for each time."""
        with self._lock:
            if time.monotonic() - self._written_at > _WRITE_EVERY_S:
                self._write()

    def kept(self) -> list[str]:
        """Digests of the champion and of those a rollback would go back to."""
        known = self.known
        return [each.scorer_sha256 for each in known.all_served[:_KEPT_FOR_ROLLBACK]] if known else []

    def was_left(self, assignment: int, version: int | None) -> bool:
        """Whether a champion's line is from before a pin that left its version: it would bring back what a person took away."""
        known = self.known
        return known is not None and assignment <= known.not_before and version in known.left

    def _write(self) -> None:
        if self.known is not None:
            if self.known_at is not None:
                self.known = replace(self.known, known_at=iso(self.known_at))
            self._written_at = time.monotonic()
            self._file.write(self.known)


def served(line: Assignment, standing: Standing) -> Served:
    """An earlier champion's line, as it is remembered."""
    assert line.version is not None  # only such lines are in `earlier`
    return Served(line.version, line.id, iso(line.at), standing.digests.get(line.version, ""))
