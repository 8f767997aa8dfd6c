"""Follows the ledger, and a local pin before it: what they name is downloaded, checked, tried, and swapped in between two requests.

The parts, each a module: `memory` (what was heard and served, also on disk), `place` (who is in the slot), `named` (loads what a line
names), `trials` (canary and shadow), `following` (obeys the ledger), `pinned` (obeys a pin), `telling` (troubles and reports). Here are the
threads, and the asking.

Two threads change what the parts hold, so the parts share one re-entrant lock, made here. Its rules:

- Whatever both threads use is changed under it. A method that changes it takes the lock itself; where several changes have to be one step,
  whoever makes them holds it around them. What only one thread changes (pauses after failures, counters of calls) needs none.
- Nobody waits for the ledger or the store while holding it, so the thread that looks at the pin is held up by no download, except of what
  a pin names itself and the cache lacks. What is written under it goes to the replica's own disk.
- One attribute is read without it, since what it refers to is replaced as a whole; several that have to fit together are read under it.
  What was read before a wait may be over after it: `Place` looks again, under the lock, whether a pin was set meanwhile, `Pinned`
  whether its pin was taken in.
- `Telling` has a lock of its own, under which nothing is called; so it may be used with or without this one. `Loader` and `PackageCache`
  have none: each of their attributes stands for itself, and a package is put in place by a rename.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from mlops_lab.clock import Clock, from_iso, iso
from mlops_lab.errors import LabError
from mlops_lab.registry.ledger import Standing
from mlops_lab.serving.cache import PackageCache
from mlops_lab.serving.dependency import Dependency
from mlops_lab.serving.following import Following
from mlops_lab.serving.known import KnownFile
from mlops_lab.serving.loaded import Scorer, Slot
from mlops_lab.serving.loading import Loader, jittered
from mlops_lab.serving.memory import Memory
from mlops_lab.serving.named import Named
from mlops_lab.serving.pin import PinFile
from mlops_lab.serving.pinned import Pinned
from mlops_lab.serving.place import Place
from mlops_lab.serving.telling import Report, Telling, words
from mlops_lab.serving.trials import Trials
from mlops_lab.telemetry import OFF, Spans

DOWN_EVERY_S = 10.0
"""While the ledger does not answer, it is not asked more often than this."""

_FIRST_ASK_S = 0.3

_log = logging.getLogger(__name__)


class FollowedLedger(Protocol):
    """The part of the ledger that a replica reads."""

    def standing(self) -> Standing:
        """The newest line of each role, of one moment. Raises RegistryUnreachable."""
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a replica goes without a word from the ledger.

    Attributes:
        every_s: Pause between two looks at the ledger, and at the pin.
        down_every_s: Pause while the ledger does not answer; up to a third is added by chance.
        canary_lease_s: How long a canary is dealt requests after its line was written.
        known_max_age_s: Age of the knowledge up to which a replica starts from it.
    """

    every_s: float = 0.5
    down_every_s: float = DOWN_EVERY_S
    canary_lease_s: float = 3600.0
    known_max_age_s: float = 7 * 86400.0


class Follower:
    """Two threads that keep the slot's line-up what the ledger names: one asks the ledger and downloads, which may take any time; the
    other looks at the pin and at the canary's lease, and waits for nobody.

    Whatever goes wrong (ledger or store down, a package refused), the champion that answers stays, the reason is in `trouble`, and
    it is tried again. Only a ledger line that takes the role away, another version's line, or a pin ends a champion's service. A canary
    or shadow that cannot be had is left out. Order is that of the ledger's ids; waiting is by the monotonic clock.
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
        pin: PinFile | None = None,
        report: Report | None = None,
        limits: Limits | None = None,
        spans: Spans = OFF,
    ) -> None:
        """Args:
        ledger: Polled.
        cache: Packages on this replica.
        known: What was heard last and what was served, for a start without the ledger and for the way back.
        slot: What answers; this is its only writer.
        load: Parses a scorer's bytes. Raises ScorerRefused.
        offered: Names of the use case's features, in the order of `FeatureRow.values`.
        clock: Wall time, for the age of the knowledge.
        pin: Where a local pin would be.
        report: Where to say what belongs into the audit trail.
        limits: Pauses and ages.
        spans: Where swaps are traced.
        """
        self._ledger = ledger
        self._clock = clock
        self._limits = limits or Limits()
        every_s, lease_s = self._limits.every_s, self._limits.canary_lease_s
        self._lock = threading.RLock()
        self._loader = Loader(cache, load, offered)
        self._telling = Telling(report)
        self._memory = Memory(known, clock, self._lock)
        self._place = Place(slot, self._memory, self._lock)
        named = Named(cache, self._loader, self._place, self._memory, self._telling, every_s)
        self._trials = Trials(self._place, named, self._telling, clock, lease_s, self._lock)
        self._pinned = Pinned(pin, self._loader, self._place, self._trials, self._memory, self._telling, every_s, self._lock)
        self._following = Following(self._place, named, self._trials, self._pinned, self._memory, self._telling, self._lock, spans)
        self._stopping = threading.Event()
        self._polled = threading.Event()
        self._first_ask_s = 0.0
        self._threads: list[threading.Thread] = []
        self._ledger_state = "unknown"
        self._ledger_since: datetime | None = None
        self.calls = 0
        self.failed_calls = 0

    @property
    def trouble(self) -> str | None:
        """What is wrong now, in words; None where nothing is."""
        return self._telling.trouble

    @property
    def known_at(self) -> datetime | None:
        """Wall time at which the ledger was heard last."""
        return self._memory.known_at

    @property
    def knowledge_age_s(self) -> float | None:
        """Since the ledger was last heard; None for never."""
        return self._memory.age_s

    @property
    def swaps(self) -> int:
        """How often a champion was put in place."""
        return self._place.swaps

    def start(self, wait_s: float = 2.0) -> None:
        """Put in place what the pin or the last knowledge names, then follow the ledger. Only where there is nothing to answer with, wait
        a moment for its first word; else the first answers do not share the processor with the import of the database library."""
        self.start_from_cache()
        self._first_ask_s = 0.0 if self._place.champion is None else _FIRST_ASK_S
        for name, work in (("follower", self._look_on), ("follower-of-ledger", self._ask_on)):
            self._threads.append(threading.Thread(target=work, name=name, daemon=True))
            self._threads[-1].start()
        if self._place.champion is None:
            self._polled.wait(wait_s)

    def stop(self) -> None:
        """End the threads. The models stay in the slot."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(timeout=5)

    def start_from_cache(self) -> None:
        """Load what the pin names, else what `state.json` does, if the package is at hand. Nothing here is fatal."""
        known = self._memory.read()
        self._pinned.look()
        age_s, pin = self._memory.age_s, self._place.pin
        if known is None or age_s is None or self._place.champion is not None:
            return
        if pin is not None and known.version in pin.barred:
            return  # a person took it away: rather no answer than its answers
        if age_s > self._limits.known_max_age_s:
            days, most = age_s / 86400, self._limits.known_max_age_s / 86400
            what = f"The ledger was last heard {days:.1f} days ago, and after {most:g} days version {known.version} is not served unheard."
            self._telling.say("champion", what)
            return
        try:
            loaded = self._loader.loaded(known.model, known.version, known.assignment, from_iso(known.assigned_at), known.scorer_sha256)
        except (LabError, ValueError, TypeError) as error:
            self._telling.say("champion", f"Version {known.version} could not be started from the cache: {words(error)}")
            return
        self._place.put(loaded, {})

    def step(self) -> None:
        """Look at the pin and the lease, then ask the ledger once and follow it."""
        self.look()
        self.ask()

    def look(self) -> None:
        """Obey what needs no ledger: a pin, and the end of a canary's lease. Waits for nobody."""
        self._trials.end_lease()
        self._pinned.look()

    def ask(self) -> bool:
        """Ask the ledger once, and follow it. False where it does not answer."""
        began = time.monotonic()
        self.calls += 1
        try:
            standing = self._ledger.standing()
        except Exception as error:
            self.failed_calls += 1
            self._ledger_is("down")
            self._telling.say("ledger", error.what if isinstance(error, LabError) else f"The ledger failed: {error!r}.")
            return False
        self._ledger_is("up")
        self._following.follow(standing, began)
        return True

    def dependencies(self) -> list[Dependency]:
        """What the replica depends on.

        `ledger`: unknown, up, down. `store`: unused, ok, unreachable, refused. `pin`: none, set, refused, unusable. `canary` and `shadow`:
        none, on, left_out, paused (by a pin), ended (a canary whose lease is over).
        """
        with self._lock:
            age_s, since = self._memory.age_s, self._ledger_since
            facts = {"since": iso(since) if since else None, "knowledge_age_s": None if age_s is None else round(age_s, 3)}
            asked = {"calls": self.calls, "failed_calls": self.failed_calls}
            return [
                Dependency("ledger", self._ledger_state, self._telling.of("ledger"), facts | asked),
                Dependency("store", self._loader.store, self._loader.store_why),
                self._pinned.dependency(),
                *self._trials.dependencies(),
            ]

    def _ledger_is(self, state: str) -> None:
        with self._lock:
            if state != self._ledger_state:
                self._ledger_state, self._ledger_since = state, self._clock.now()

    def _look_on(self) -> None:
        while not self._stopping.wait(self._limits.every_s):
            try:
                self.look()
            except Exception:  # the threads must outlive anything: without them a replica serves one version for ever
                _log.exception("serving.follower_failed")

    def _ask_on(self) -> None:
        self._stopping.wait(self._first_ask_s)
        while not self._stopping.is_set():
            answered = False
            try:
                answered = self.ask()
            except Exception:
                _log.exception("serving.follower_failed")
            self._polled.set()
            self._stopping.wait(self._limits.every_s if answered else jittered(self._limits.down_every_s))
