"""Follows the ledger, and a local pin before it: what they name is downloaded, checked, tried, and swapped in between two requests."""

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

from mlops_lab.clock import Clock, from_iso, iso
from mlops_lab.errors import LabError, PinRefused, StoreUnreachable
from mlops_lab.registry.ledger import TRIALS, Standing
from mlops_lab.registry.version import Assignment, Role
from mlops_lab.serving.cache import Known, KnownFile, PackageCache, Served
from mlops_lab.serving.dependency import Dependency
from mlops_lab.serving.lease import lease_ends
from mlops_lab.serving.loaded import LineUp, Loaded, Scorer, Slot
from mlops_lab.serving.loading import Loader, Retry, jittered
from mlops_lab.serving.pin import Pin, PinFile

DOWN_EVERY_S = 10.0
"""While the ledger does not answer, it is not asked more often than this."""
_WRITE_KNOWN_EVERY_S = 30.0
_KEPT_FOR_ROLLBACK = 3

Report = Callable[[str, str, str, Mapping[str, str]], None]
"""Tells the audit trail something: what, subject, why, digests. May raise; it is told again then."""

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


@dataclass(frozen=True, slots=True)
class _Trial:
    line: Assignment
    loaded: Loaded
    permille: int


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
        """
        self._ledger = ledger
        self._cache = cache
        self._file = known
        self._slot = slot
        self._loader = Loader(cache, load, offered)
        self._clock = clock
        self._pins = pin
        self._report = report
        self._limits = limits or Limits()
        self._stopping = threading.Event()
        self._polled = threading.Event()
        self._threads: list[threading.Thread] = []
        self._lock = threading.RLock()  # all below it; never held while the ledger or the store is waited for
        self._known: Known | None = None
        self._written_at = 0.0
        self._pin: Pin | None = None  # in force
        self._pin_state = "none"
        self._trials: dict[Role, _Trial] = {}
        self._wanted: dict[Role, Assignment] = {}
        self._trial_states: dict[Role, str] = {}
        self._lease: tuple[int, float] | None = None  # canary line and the monotonic moment of its end
        self._retries = {role: Retry(self._limits.every_s) for role in Role}
        self._way_back = 0  # the line whose package is at hand
        self._way_back_retry = Retry(self._limits.every_s)
        self._pin_retry = Retry(self._limits.every_s)
        self._troubles: dict[str, str] = {}
        self._told: set[tuple[str, object]] = set()
        self._heard_at: float | None = None  # monotonic
        self._ledger_state = "unknown"
        self._ledger_since: datetime | None = None
        self.known_at: datetime | None = None
        self.swaps = 0
        self.calls = 0
        self.failed_calls = 0

    @property
    def trouble(self) -> str | None:
        """What is wrong now, in words; None where nothing is."""
        return " ".join(self._troubles.values()) or None

    @property
    def knowledge_age_s(self) -> float | None:
        """Since the ledger was last heard: by the monotonic clock where this process heard it, else by the wall clock. None: never."""
        if self._heard_at is not None:
            return time.monotonic() - self._heard_at
        return None if self.known_at is None else max((self._clock.now() - self.known_at).total_seconds(), 0.0)

    def start(self, wait_s: float = 2.0) -> None:
        """Put in place what the pin or the last knowledge names, then follow the ledger; wait a moment for its first answer."""
        self.start_from_cache()
        for name, work in (("follower", self._look_on), ("follower-of-ledger", self._ask_on)):
            self._threads.append(threading.Thread(target=work, name=name, daemon=True))
            self._threads[-1].start()
        self._polled.wait(wait_s)

    def stop(self) -> None:
        """End the threads. The models stay in the slot."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(timeout=5)

    def start_from_cache(self) -> None:
        """Load what the pin names, else what `state.json` does, if the package is at hand. Nothing here is fatal."""
        with self._lock:
            known = self._known = self._file.read()
            try:
                self.known_at = None if known is None else from_iso(known.known_at)
            except ValueError as error:
                _log.error("serving.state_unreadable", extra={"why": str(error)})
                known = self._known = None
        self._look_at_pin()
        if known is None or self.known_at is None or self._slot.lineup is not None:
            return
        if self._pin is not None and known.version in self._pin.barred:
            return  # a person took it away: rather no answer than its answers
        age_s = (self._clock.now() - self.known_at).total_seconds()
        if age_s > self._limits.known_max_age_s:
            days, most = age_s / 86400, self._limits.known_max_age_s / 86400
            what = f"The ledger was last heard {days:.1f} days ago, and after {most:g} days version {known.version} is not served unheard."
            self._say("champion", what)
            return
        try:
            loaded = self._loader.loaded(known.model, known.version, known.assignment, from_iso(known.assigned_at), known.scorer_sha256)
        except (LabError, ValueError, TypeError) as error:
            self._say("champion", f"Version {known.version} could not be started from the cache: {_words(error)}")
            return
        with self._lock:
            self._put_champion(loaded)

    def step(self) -> None:
        """Look at the pin and the lease, then ask the ledger once and follow it."""
        self.look()
        self.ask()

    def look(self) -> None:
        """Obey what needs no ledger: a pin, and the end of a canary's lease. Waits for nobody."""
        self._end_lease()
        self._look_at_pin()

    def ask(self) -> bool:
        """Ask the ledger once, and follow it. False where it does not answer."""
        began, before = time.monotonic(), self._heard_at
        self.calls += 1
        try:
            standing = self._ledger.standing()
        except Exception as error:
            self.failed_calls += 1
            self._ledger_is("down")
            self._say("ledger", error.what if isinstance(error, LabError) else f"The ledger failed: {error!r}.")
            return False
        self._ledger_is("up")
        champion = standing.lines.get(Role.CHAMPION)
        if champion is None:
            # A ledger that forgot its champion was lost or is the wrong one: taking the role away is an explicit line.
            forgot = self._slot.current is not None or self._known is not None
            self._say("ledger", "The ledger names no champion and never did." if forgot else None)
            return True
        with self._lock:
            self._heard_at, self.known_at = began, self._clock.now()
            self._say("ledger", None)
            self._note_lease(standing.lines.get(Role.CANARY), before)
            self._remember(standing)
        self._follow(champion, standing)
        self._end_lease()
        with self._lock:
            self._remember(standing)
        self._keep_way_back(standing)
        with self._lock:
            if self._known is not None and time.monotonic() - self._written_at > _WRITE_KNOWN_EVERY_S:
                self._write()
        return True

    def dependencies(self) -> list[Dependency]:
        """What the replica depends on.

        `ledger`: unknown, up, down. `store`: unused, ok, unreachable, refused. `pin`: none, set, refused, unusable. `canary` and `shadow`:
        none, on, left_out, paused (by a pin), ended (a canary whose lease is over).
        """
        with self._lock:
            age_s, since, pin = self.knowledge_age_s, self._ledger_since, self._pin
            facts = {"since": iso(since) if since else None, "knowledge_age_s": None if age_s is None else round(age_s, 3)}
            asked = {"calls": self.calls, "failed_calls": self.failed_calls}
            found = [
                Dependency("ledger", self._ledger_state, self._troubles.get("ledger", ""), facts | asked),
                Dependency("store", self._loader.store, self._loader.store_why),
                Dependency(
                    "pin",
                    self._pin_state,
                    self._troubles.get("pin", ""),
                    {} if pin is None else {"id": pin.id, "version": pin.version, "leaving": pin.leaving, "by": pin.by, "reason": pin.why},
                ),
            ]
            for role in TRIALS:
                line = self._wanted.get(role)
                about = {} if line is None else {"version": line.version, "permille": round(line.weight * 1000)}
                found.append(Dependency(role.value, self._trial_states.get(role, "none"), self._troubles.get(role, ""), about))
            return found

    # -- the ledger ------------------------------------------------------------------------------------------------------------------

    def _remember(self, standing: Standing) -> None:
        """Keep the bars and which pins are settled, for a time without the ledger; end a pin that was taken in."""
        if self._pin is not None and self._pin.id in standing.pins:
            _log.info("serving.pin_taken_in", extra={"pin": self._pin.id, "version": self._pin.version})
            self._pin, self._pin_state = None, "none"
            self._say("pin", None)
        if self._known is not None:
            told = replace(self._known, barred=tuple(sorted(standing.barred)), settled=tuple(sorted(standing.pins)))
            told = told.also(_served(line, standing) for line in standing.earlier)
            if told != self._known:
                self._known = told
                self._write()

    def _follow(self, champion: Assignment, standing: Standing) -> None:
        current = self._slot.current
        loaded = current
        if self._pin is not None:
            pass
        elif champion.version is None:
            self._take_away(champion)
            return
        elif current is None or current.assignment != champion.id or current.version != champion.version:
            loaded = self._load(Role.CHAMPION, champion, standing) if self._may_follow(champion) else None
        else:
            self._say("champion", None)
        trials: dict[Role, _Trial] = {}
        for role in TRIALS:
            trial = self._trial(role, standing)
            if trial is not None:
                trials[role] = trial
        with self._lock:
            if self._pin is not None:
                return  # set meanwhile
            self._trials = trials
            if loaded is not None and loaded is not current:
                self._put_champion(loaded)
            else:
                self._put_line_up(self._slot.current)

    def _keep_way_back(self, standing: Standing) -> None:
        """Have the package at hand that a rollback would need: when it is needed, the store may be down."""
        line = next(iter(standing.earlier), None)
        if line is None or line.id == self._way_back or self._slot.lineup is None or self._way_back_retry.waits(line.id):
            return
        try:
            self._protect(standing.digests.values())
            self._cache.scorer(_served(line, standing).scorer_sha256, line.model)
            self._way_back = line.id
        except Exception as error:
            self._way_back_retry.failed(line.id)
            _log.warning("serving.way_back_not_at_hand", extra={"version": line.version, "why": _words(error)})

    def _may_follow(self, champion: Assignment) -> bool:
        """Not a line from before a pin that is gone without having been taken in: it would bring back what a person took away."""
        known = self._known
        if known is None or champion.id > known.not_before or champion.version not in known.left:
            return True
        what = f"The ledger still names version {champion.version}, which a pin left; version {known.version} stays until it is taken in."
        self._say("champion", what)
        return False

    def _load(self, role: Role, line: Assignment, standing: Standing) -> Loaded | None:
        """A version that a line names; None, with the reason said, where it cannot be had now."""
        retry, number = self._retries[role], line.version
        assert number is not None
        if retry.waits(line.id):
            return None
        digest = standing.digests.get(number, "")
        try:
            self._protect(standing.digests.values())
            loaded = self._loader.loaded(line.model, number, line.id, line.at, digest, self._there())
        except Exception as error:
            retry.failed(line.id)
            left_out = "could not be put in place" if role == Role.CHAMPION else f"is left out as {role}"
            self._say(role, f"Version {number} {left_out}: {_words(error)}")
            what = "package_unreachable" if isinstance(error, StoreUnreachable) else "package_refused"
            if what == "package_refused" or role != Role.CHAMPION:
                self._tell(
                    (what, line.id),
                    what,
                    f"{line.model}/{number}",
                    f"{role}: {_words(error)}",
                    {"scorer": digest, **getattr(error, "digests", {})},
                )
            return None
        retry.succeeded()
        self._say(role, None)
        return loaded

    def _protect(self, named: Collection[str]) -> None:
        """Keep the packages of what is named, of what answers, and of what a rollback would go back to."""
        with self._lock:
            kept = [each.scorer_sha256 for each in self._known.all_served[:_KEPT_FOR_ROLLBACK]] if self._known else []
            self._cache.protect({*named, *kept, *(each.scorer_sha256 for each in self._there())})

    def _there(self) -> list[Loaded]:
        lineup = self._slot.lineup
        return [each for each in (lineup.champion, lineup.canary, lineup.shadow) if each is not None] if lineup else []

    def _trial(self, role: Role, standing: Standing) -> _Trial | None:
        """Who is tried in a role, None for nobody; says why where the ledger names somebody."""
        line, champion = standing.lines.get(role), standing.lines.get(Role.CHAMPION)
        number = None if line is None else line.version
        permille = 0 if line is None else round(line.weight * 1000)
        state: str | None = None
        if line is None or number is None or permille == 0:
            state = "none"
        elif number in standing.barred or (champion is not None and number == champion.version):
            state = "left_out"
        elif self._pin is not None:
            state = "paused"
        elif role == Role.CANARY and self._lease is not None and time.monotonic() >= self._lease[1]:
            state = "ended"
        trial: _Trial | None = None
        if state is None and line is not None:
            old = self._trials.get(role)
            loaded = old.loaded if old is not None and old.line.id == line.id else self._load(role, line, standing)
            trial = None if loaded is None else _Trial(line, loaded, permille)
            state = "left_out" if trial is None else "on"
        if state not in ("on", "ended") and not (state == "left_out" and self._retries[role].waits(line.id if line else None)):
            self._say(role, None)
        with self._lock:
            self._trial_states[role] = str(state)
            if line is None or number is None:
                self._wanted.pop(role, None)
            else:
                self._wanted[role] = line
        return trial

    # -- the canary's lease ----------------------------------------------------------------------------------------------------------

    def _note_lease(self, line: Assignment | None, heard_before: float | None) -> None:
        """Remember when a canary's line has to be gone, at the first sight of it."""
        if line is None or line.version is None:
            self._lease = None
        elif self._lease is None or self._lease[0] != line.id:
            now = time.monotonic()
            unseen_s = float("inf") if heard_before is None else now - heard_before
            ends = lease_ends(line.recorded_at, self._limits.canary_lease_s, now=self._clock.now(), monotonic_s=now, unseen_s=unseen_s)
            self._lease = line.id, ends

    def _end_lease(self) -> None:
        """Deal nothing to a canary any more whose line is too old. What was dealt is answered."""
        with self._lock:
            line = self._wanted.get(Role.CANARY)
            if line is None or self._lease is None or self._lease[0] != line.id or time.monotonic() < self._lease[1]:
                return
            if self._trials.pop(Role.CANARY, None) is not None:
                self._put_line_up(self._slot.current)
            self._trial_states[Role.CANARY] = "ended"
        hours = self._limits.canary_lease_s / 3600
        what = f"Version {line.version} was canary for {hours:g} h without a word from the ledger, and is dealt nothing any more."
        self._say(Role.CANARY, what)
        self._tell(("canary_lease_ended", line.id), "canary_lease_ended", f"{line.model}/{line.version}", what, {})

    # -- the pin ---------------------------------------------------------------------------------------------------------------------

    def _look_at_pin(self) -> None:
        if self._pins is None:
            return
        try:
            pin = self._pins.read()
        except PinRefused as error:
            self._pin_state = "refused"
            self._say("pin", error.what)
            self._tell(("pin_refused", error.what), "pin_refused", self._pins.path.parent.name, error.what, {})
            return
        with self._lock:
            known, settled = self._known, self._known.settled if self._known else ()
            if pin is None or pin.id in settled:
                if pin is None and self._pin is not None:
                    _log.warning("serving.pin_removed", extra={"pin": self._pin.id})
                    self._pin = None
                if self._pin is None:
                    self._pin_state = "none"
                    self._say("pin", None)
                return
            if known is not None and pin.model != known.model:
                self._pin_state = "refused"
                what = f"The local pin is of model '{pin.model}', not of {known.model}."
                self._say("pin", what)
                self._tell(("pin_refused", pin.id), "pin_refused", self._pins.path.parent.name, what, {"pin": pin.digest})
                return
            if self._pin is not None and self._pin.id == pin.id and self._pin_state == "set":
                return
            self._pin = pin  # from here on nothing of the ledger is put in place
        if not self._pin_retry.waits(pin.id):
            self._obey(pin)

    def _obey(self, pin: Pin) -> None:
        """Put what a pin names in place, from the cache, and nobody on trial."""
        try:
            loaded = self._loader.loaded(
                pin.model, pin.version, pin.assignment, from_iso(pin.assigned_at), pin.scorer_sha256, self._there()
            )
        except Exception as error:
            self._pin_retry.failed(pin.id)
            self._pin_state = "unusable"
            self._say("pin", f"Version {pin.version}, which a local pin names, could not be put in place: {_words(error)}")
            return
        self._pin_retry.succeeded()
        with self._lock:
            self._trials = {}
            self._trial_states = dict.fromkeys(self._wanted, "paused")
            barred = tuple(sorted({*(self._known.barred if self._known else ()), *pin.barred}))
            self._put_champion(loaded, barred=barred, left=pin.barred, not_before=pin.left_assignment)
            self._pin_state = "set"
        for part in ("champion", *TRIALS):
            self._say(part, None)
        self._say("pin", f"A local pin by {pin.by} keeps version {pin.version} in place of {pin.leaving}: {pin.why}")
        digests = {"pin": pin.digest, "scorer": pin.scorer_sha256}
        self._tell(("pin_set", pin.id), "pin_set", f"{pin.model}/{pin.version}", f"{pin.by}: {pin.why}", digests)

    # -- what answers, and what is known ---------------------------------------------------------------------------------------------

    def _put_champion(self, loaded: Loaded, **changes: Any) -> None:
        """One step, under the lock: who answers, who is tried beside, and what is remembered of it."""
        self._put_line_up(loaded)
        self.swaps += 1
        now = Served(loaded.version, loaded.assignment, iso(loaded.assigned_at), loaded.scorer_sha256)
        at = iso(self.known_at or self._clock.now())
        base = self._known or Known(loaded.model, now.version, now.assignment, now.assigned_at, now.scorer_sha256, at)
        self._known = base.then(now, **changes)
        self._write()
        fields = {"model": loaded.model, "version": loaded.version, "assignment": loaded.assignment}
        _log.info("serving.model_swapped_in", extra=fields | {"scorer_sha256": loaded.scorer_sha256})

    def _put_line_up(self, champion: Loaded | None) -> None:
        if champion is None:
            return
        canary, shadow = self._trials.get(Role.CANARY), self._trials.get(Role.SHADOW)
        lineup = LineUp(
            champion,
            canary.loaded if canary else None,
            canary.permille if canary else 0,
            shadow.loaded if shadow else None,
            shadow.permille if shadow else 0,
        )
        if not _same(lineup, self._slot.lineup):
            self._slot.lineup = lineup

    def _take_away(self, line: Assignment) -> None:
        with self._lock:
            if self._slot.lineup is not None or self._known is not None:
                self._slot.lineup, self._trials, self._known = None, {}, None
                self._file.forget()
                _log.warning("serving.champion_taken_away", extra={"assignment": line.id, "by": line.by, "why": line.why})
        for part in ("champion", *TRIALS):
            self._say(part, None)

    def _write(self) -> None:
        if self._known is not None:
            if self.known_at is not None:
                self._known = replace(self._known, known_at=iso(self.known_at))
            self._written_at = time.monotonic()
            self._file.write(self._known)

    # -- telling ---------------------------------------------------------------------------------------------------------------------

    def _ledger_is(self, state: str) -> None:
        if state != self._ledger_state:
            self._ledger_state, self._ledger_since = state, self._clock.now()

    def _say(self, part: str, trouble: str | None) -> None:
        with self._lock:
            if trouble == self._troubles.get(part):
                return
            others = {name: what for name, what in self._troubles.items() if name != part}
            self._troubles = others if trouble is None else {**others, part: trouble}  # replaced as a whole: it is read without the lock
        if trouble is None:
            _log.info("serving.follows_again", extra={"part": part})
        else:
            _log.error("serving.cannot_follow", extra={"part": part, "why": trouble})

    def _tell(self, once: tuple[str, object], what: str, subject: str, why: str, digests: Mapping[str, str]) -> None:
        if self._report is None or once in self._told:
            return
        try:
            self._report(what, subject, why, digests)
        except Exception as error:  # the log is full, for instance: what is to be told may wait, what answers may not
            _log.error("serving.not_reported", extra={"what": what, "subject": subject, "why": str(error)})
            return
        self._told.add(once)

    # -- the threads -----------------------------------------------------------------------------------------------------------------

    def _look_on(self) -> None:
        while not self._stopping.wait(self._limits.every_s):
            try:
                self.look()
            except Exception:  # the threads must outlive anything: without them a replica serves one version for ever
                _log.exception("serving.follower_failed")

    def _ask_on(self) -> None:
        while not self._stopping.is_set():
            answered = False
            try:
                answered = self.ask()
            except Exception:
                _log.exception("serving.follower_failed")
            self._polled.set()
            self._stopping.wait(self._limits.every_s if answered else jittered(self._limits.down_every_s))


def _served(line: Assignment, standing: Standing) -> Served:
    assert line.version is not None  # only such lines are in `earlier`
    return Served(line.version, line.id, iso(line.at), standing.digests.get(line.version, ""))


def _same(one: LineUp, other: LineUp | None) -> bool:
    """By identity: whether two scorers are equal is not for us to ask."""
    if other is None or (one.canary_permille, one.shadow_permille) != (other.canary_permille, other.shadow_permille):
        return False
    return one.champion is other.champion and one.canary is other.canary and one.shadow is other.shadow


def _words(error: Exception) -> str:
    return error.what if isinstance(error, LabError) else repr(error)
