"""Follows the ledger: what it names as champion is downloaded, checked, tried, and then swapped in between two requests."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from mlops_lab.clock import Clock, from_iso, iso
from mlops_lab.errors import LabError, NoChampion
from mlops_lab.registry.version import Assignment, ModelVersion
from mlops_lab.serving.cache import Known, KnownFile, PackageCache
from mlops_lab.serving.loaded import LineUp, Loaded, Scorer, Slot, picker, try_out

_LONGEST_PAUSE_S = 10.0
_WRITE_KNOWN_EVERY_S = 30.0

_log = logging.getLogger(__name__)


class FollowedLedger(Protocol):
    """The part of the ledger that a replica reads."""

    def champion(self) -> Assignment:
        """The champion's newest line. Raises NoChampion, RegistryUnreachable."""
        ...

    def version(self, number: int) -> ModelVersion:
        """What a version is. Raises UnknownVersion, RegistryUnreachable."""
        ...


class Follower:
    """A thread that keeps the slot's model the one the ledger names.

    Whatever goes wrong (ledger or store down, a package refused), the model that answers stays, the reason is in `trouble`, and
    it is tried again. Only a ledger line that takes the role away, or another version's line, ends a model's service.
    """

    def __init__(
        self,
        ledger: FollowedLedger,
        cache: PackageCache,
        known: KnownFile,
        slot: Slot,
        load: Callable[[bytes], Scorer],
        offered: Sequence[str],
        clock: Clock,
        *,
        every_s: float = 0.5,
    ) -> None:
        """Args:
        ledger: Polled.
        cache: Packages on this replica.
        known: What was heard last, for a start without the ledger.
        slot: What answers; this is its only writer.
        load: Parses a scorer's bytes. Raises ScorerRefused.
        offered: Names of the use case's features, in the order of `FeatureRow.values`.
        clock: Wall time, for the age of the knowledge.
        every_s: Pause between two polls.
        """
        self._ledger = ledger
        self._cache = cache
        self._known = known
        self._slot = slot
        self._load = load
        self._offered = tuple(offered)
        self._clock = clock
        self._every_s = every_s
        self._stopping = threading.Event()
        self._polled = threading.Event()
        self._thread: threading.Thread | None = None
        self._written_at = 0.0
        self._pause_s = every_s
        self._retry: tuple[int, float] | None = None  # assignment that could not be loaded, and when to try it again
        self.known_at: datetime | None = None
        self.trouble: str | None = None
        self.swaps = 0

    def start(self, wait_s: float = 2.0) -> None:
        """Put the last known champion in place from the cache, then follow the ledger; wait a moment for its first answer."""
        self.start_from_cache()
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)
        self._thread.start()
        self._polled.wait(wait_s)

    def stop(self) -> None:
        """End the thread. The model stays in the slot."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout=5)

    def start_from_cache(self) -> None:
        """Load what `state.json` names, if the package is at hand. Nothing here is fatal."""
        known = self._known.read()
        if known is None:
            return
        try:
            self._swap_in(known.model, known.version, known.assignment, from_iso(known.assigned_at), known.scorer_sha256)
            self.known_at = from_iso(known.known_at)
        except (LabError, ValueError, TypeError) as error:
            _log.warning("serving.cache_start_failed", extra={"version": known.version, "why": str(error)})

    def step(self) -> None:
        """Ask the ledger once and follow it."""
        try:
            champion = self._ledger.champion()
        except NoChampion as error:
            # A ledger that forgot its champion was lost or is the wrong one: taking the role away is an explicit line.
            self._say(error.what if self._slot.current is not None else None)
            return
        except Exception as error:
            self._say(error.what if isinstance(error, LabError) else f"The ledger failed: {error!r}.")
            return
        current = self._slot.current
        self.known_at = self._clock.now()
        if champion.version is None:
            if current is not None:
                self._slot.lineup = None
                self._known.forget()
                _log.warning("serving.champion_taken_away", extra={"assignment": champion.id, "by": champion.by, "why": champion.why})
            self._say(None)
        elif current is None or current.assignment != champion.id:
            self._follow(champion, champion.version)
        else:
            self._say(None)
            if time.monotonic() - self._written_at > _WRITE_KNOWN_EVERY_S:
                self._write_known(current)

    def _follow(self, champion: Assignment, number: int) -> None:
        if self._retry is not None and self._retry[0] == champion.id and time.monotonic() < self._retry[1]:
            return
        try:
            digest = self._ledger.version(number).scorer_sha256
            self._swap_in(champion.model, number, champion.id, champion.at, digest)
        except Exception as error:
            why = error.what if isinstance(error, LabError) else repr(error)
            again = self._retry is not None and self._retry[0] == champion.id
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S) if again else self._every_s
            self._retry = champion.id, time.monotonic() + self._pause_s
            self._say(f"Version {number} could not be put in place: {why}")
            return
        self._retry = None
        self._say(None)

    def _swap_in(self, model: str, number: int, assignment: int, assigned_at: datetime, digest: str) -> None:
        """Load and try a version, then make it the one that answers."""
        began = time.perf_counter()
        current = self._slot.current
        if current is not None and current.scorer_sha256 == digest and current.model == model:
            scorer = current.scorer
        else:
            scorer = self._load(self._cache.scorer(digest, model))
            try_out(scorer)
        loaded = Loaded(model, number, assignment, assigned_at, digest, scorer, picker(self._offered, scorer.features))
        self._slot.lineup = LineUp(loaded)
        self.swaps += 1
        if self.known_at is not None:
            self._write_known(loaded)
        fields = {"model": model, "version": number, "assignment": assignment, "scorer_sha256": digest}
        _log.info("serving.model_swapped_in", extra=fields | {"duration_ms": round((time.perf_counter() - began) * 1000, 1)})

    def _write_known(self, loaded: Loaded) -> None:
        self._written_at = time.monotonic()
        at = self.known_at or self._clock.now()
        self._known.write(
            Known(loaded.model, loaded.version, loaded.assignment, iso(loaded.assigned_at), loaded.scorer_sha256, known_at=iso(at))
        )

    def _say(self, trouble: str | None) -> None:
        if trouble != self.trouble:
            if trouble is None:
                _log.info("serving.follows_again")
            else:
                _log.error("serving.cannot_follow", extra={"why": trouble})
        self.trouble = trouble

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.step()
            except Exception:  # the thread must outlive anything: without it a replica serves one version for ever
                _log.exception("serving.follower_failed")
            self._polled.set()
            self._stopping.wait(self._every_s)
