"""Canary and shadow: whom the ledger wants to be tried, who is, why somebody is not, and when a canary's lease is over."""

import threading
import time

from mlops_lab.clock import Clock
from mlops_lab.registry.ledger import TRIALS, Standing
from mlops_lab.registry.version import Assignment, Role
from mlops_lab.serving.dependency import Dependency
from mlops_lab.serving.lease import lease_ends
from mlops_lab.serving.named import Named
from mlops_lab.serving.place import Place, Trial
from mlops_lab.serving.telling import Telling


class Trials:
    """Chooses who is tried beside the champion. `chosen` is for the thread that asks the ledger; what changes takes the follower's lock.

    States of a role: `none`, `on`, `left_out` (it cannot be had or may not), `paused` (by a pin), `ended` (a canary whose lease is over).
    """

    def __init__(self, place: Place, named: Named, telling: Telling, clock: Clock, lease_s: float, lock: threading.RLock) -> None:
        """Args:
        lease_s: How long a canary is dealt requests after its line was written.
        """
        self._place = place
        self._named = named
        self._telling = telling
        self._clock = clock
        self._lease_s = lease_s
        self._lock = lock
        self._wanted: dict[Role, Assignment] = {}
        self._states: dict[Role, str] = {}
        self._lease: tuple[int, float] | None = None  # canary line and the monotonic moment of its end

    def chosen(self, standing: Standing) -> dict[Role, Trial]:
        """Who is tried in which role; says why where the ledger names somebody else. Loads, which may take any time."""
        found = ((role, self._trial(role, standing)) for role in TRIALS)
        return {role: trial for role, trial in found if trial is not None}

    def pause(self) -> None:
        """A pin is obeyed: nobody is tried."""
        with self._lock:
            self._states = dict.fromkeys(self._wanted, "paused")

    def note_lease(self, line: Assignment | None, heard_before: float | None) -> None:
        """Remember when a canary's line has to be gone, at the first sight of it.

        Args:
            line: The canary's.
            heard_before: When the ledger was heard before it said this, by the monotonic clock; None for never.
        """
        with self._lock:
            if line is None or line.version is None:
                self._lease = None
            elif self._lease is None or self._lease[0] != line.id:
                now = time.monotonic()
                unseen_s = float("inf") if heard_before is None else now - heard_before
                ends = lease_ends(line.recorded_at, self._lease_s, now=self._clock.now(), monotonic_s=now, unseen_s=unseen_s)
                self._lease = line.id, ends

    def end_lease(self) -> None:
        """Deal nothing to a canary any more whose line is too old. What was dealt is answered."""
        with self._lock:
            line = self._wanted.get(Role.CANARY)
            if line is None or not self._is_over(line):
                return
            self._place.end_trial(Role.CANARY)
            self._states[Role.CANARY] = "ended"
        hours = self._lease_s / 3600
        what = f"Version {line.version} was canary for {hours:g} h without a word from the ledger, and is dealt nothing any more."
        self._telling.say(Role.CANARY, what)
        self._telling.tell(("canary_lease_ended", line.id), "canary_lease_ended", f"{line.model}/{line.version}", what, {})

    def dependencies(self) -> list[Dependency]:
        """`canary` and `shadow`."""
        found = []
        with self._lock:
            for role in TRIALS:
                line = self._wanted.get(role)
                about = {} if line is None else {"version": line.version, "permille": round(line.weight * 1000)}
                found.append(Dependency(role.value, self._states.get(role, "none"), self._telling.of(role), about))
        return found

    def _trial(self, role: Role, standing: Standing) -> Trial | None:
        line, champion = standing.lines.get(role), standing.lines.get(Role.CHAMPION)
        number = None if line is None else line.version
        permille = 0 if line is None else round(line.weight * 1000)
        state: str | None = None
        if line is None or number is None or permille == 0:
            state = "none"
        elif number in standing.barred or (champion is not None and number == champion.version):
            state = "left_out"
        elif self._place.pin is not None:
            state = "paused"
        elif role == Role.CANARY and self._is_over(line):
            state = "ended"
        trial: Trial | None = None
        if state is None and line is not None:
            old = self._place.trials.get(role)
            loaded = old.loaded if old is not None and old.line.id == line.id else self._named.load(role, line, standing)
            trial = None if loaded is None else Trial(line, loaded, permille)
            state = "left_out" if trial is None else "on"
        if state not in ("on", "ended") and not (state == "left_out" and self._named.waits(role, line)):
            self._telling.say(role, None)
        with self._lock:
            self._states[role] = str(state)
            if line is None or number is None:
                self._wanted.pop(role, None)
            else:
                self._wanted[role] = line
        return trial

    def _is_over(self, canary: Assignment) -> bool:
        return self._lease is not None and self._lease[0] == canary.id and time.monotonic() >= self._lease[1]
