"""Obeying the ledger: what it says at one moment is remembered, put in place, and prepared for the way back."""

import threading
from time import time_ns

from mlops_lab.registry.ledger import TRIALS, Standing
from mlops_lab.registry.version import Assignment, Role
from mlops_lab.serving.memory import Memory
from mlops_lab.serving.named import Named
from mlops_lab.serving.pinned import Pinned
from mlops_lab.serving.place import Place
from mlops_lab.serving.telling import Telling
from mlops_lab.serving.trials import Trials
from mlops_lab.telemetry import OFF, Span, Spans, TraceContext
from mlops_lab.telemetry.span import Attribute


class Following:
    """Follows one answer of the ledger after the other. Belongs to the thread that asks; may take any time."""

    def __init__(
        self,
        place: Place,
        named: Named,
        trials: Trials,
        pinned: Pinned,
        memory: Memory,
        telling: Telling,
        lock: threading.RLock,
        spans: Spans = OFF,
    ) -> None:
        self._place = place
        self._named = named
        self._trials = trials
        self._pinned = pinned
        self._memory = memory
        self._telling = telling
        self._lock = lock
        self._spans = spans

    def follow(self, standing: Standing, asked_at: float) -> None:
        """Do what the ledger says.

        Args:
            standing: Its answer.
            asked_at: When it was asked, by the monotonic clock.
        """
        champion = standing.lines.get(Role.CHAMPION)
        if champion is None:
            # A ledger that forgot its champion was lost or is the wrong one: taking the role away is an explicit line.
            forgot = self._place.champion is not None or self._memory.known is not None
            self._telling.say("ledger", "The ledger names no champion and never did." if forgot else None)
            return
        with self._lock:
            before = self._memory.heard_at
            self._memory.heard(asked_at)
            self._telling.say("ledger", None)
            self._trials.note_lease(standing.lines.get(Role.CANARY), before)
            self._remember(standing)
        self._put_in_place(champion, standing)
        self._trials.end_lease()
        self._remember(standing)
        self._named.keep_way_back(standing)
        self._memory.write_now_and_then()

    def _remember(self, standing: Standing) -> None:
        """Keep what counts in a time without the ledger; end a pin that was taken in."""
        with self._lock:
            self._pinned.taken_in(standing.pins)
            self._memory.note(standing)

    def _put_in_place(self, champion: Assignment, standing: Standing) -> None:
        new, current, began_ns = None, self._place.champion, time_ns()
        if self._place.pin is None:
            if champion.version is None:
                self._take_away(champion)
                return
            if current is not None and (current.assignment, current.version) == (champion.id, champion.version):
                self._telling.say("champion", None)
            elif self._may_follow(champion):
                new = self._named.load(Role.CHAMPION, champion, standing)
        self._place.follow(new, self._trials.chosen(standing))
        if new is not None and self._place.champion is new:
            self._trace_swap(champion, began_ns, standing.traces.get(champion.id))

    def _trace_swap(self, line: Assignment, began_ns: int, assigned_in: str | None) -> None:
        """A trace of its own, for a replica may come to it hours later, with a link to where the ledger's line was written."""
        if self._spans.on:
            link = TraceContext.parse(assigned_in)
            said: dict[str, Attribute] = {
                "lab.model": line.model,
                "lab.model_version": line.version or 0,
                "lab.assignment": line.id,
                "lab.kind": line.kind,
            }
            span = Span("swap model", TraceContext.new(), start_ns=began_ns, end_ns=time_ns(), attributes=said)
            span.links = (link,) if link else ()
            self._spans.put(span)

    def _take_away(self, champion: Assignment) -> None:
        if self._place.take_away(champion):
            for part in ("champion", *TRIALS):
                self._telling.say(part, None)

    def _may_follow(self, champion: Assignment) -> bool:
        """Not a line from before a pin that is gone without having been taken in."""
        known = self._memory.known
        if known is None or not self._memory.was_left(champion.id, champion.version):
            return True
        what = f"The ledger still names version {champion.version}, which a pin left; version {known.version} stays until it is taken in."
        self._telling.say("champion", what)
        return False
