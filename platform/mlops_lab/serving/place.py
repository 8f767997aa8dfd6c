"""Who is in place: the one writer of the slot. Champion and trials change in one step; while a pin is in force, only a pin changes them."""

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlops_lab.registry.version import Assignment, Role
from mlops_lab.serving.loaded import LineUp, Loaded, Slot
from mlops_lab.serving.memory import Memory
from mlops_lab.serving.pin import Pin

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Trial:
    """Somebody beside the champion: by which line, who, and for how many of 1000 requests."""

    line: Assignment
    loaded: Loaded
    permille: int


class Place:
    """The champion, the trials beside it, and the pin in force. What changes them takes the follower's lock.

    Attributes:
        pin: In force: from here on nothing of the ledger is put in place. Set and ended by `Pinned`.
        trials: By role. Replaced as a whole.
        swaps: How often a champion was put in place.
    """

    def __init__(self, slot: Slot, memory: Memory, lock: threading.RLock) -> None:
        self._slot = slot
        self._memory = memory
        self._lock = lock
        self.pin: Pin | None = None
        self.trials: Mapping[Role, Trial] = {}
        self.swaps = 0

    @property
    def champion(self) -> Loaded | None:
        """Who answers; None while nobody does."""
        return self._slot.current

    def loaded(self) -> list[Loaded]:
        """Everybody in place."""
        lineup = self._slot.lineup
        return [each for each in (lineup.champion, lineup.canary, lineup.shadow) if each is not None] if lineup else []

    def follow(self, new: Loaded | None, trials: Mapping[Role, Trial]) -> None:
        """Put in place what the ledger names, unless a pin was set while it was loaded; not a champion that such a pin left.

        Args:
            new: The champion, where it changes.
            trials: Who is tried beside.
        """
        with self._lock:
            if self.pin is not None:
                return
            if new is None or self._memory.was_left(new.assignment, new.version):
                self.trials = trials
                self._line_up(self._slot.current)
            else:
                self.put(new, trials)

    def put(self, champion: Loaded, trials: Mapping[Role, Trial], **changes: Any) -> None:
        """In one step: who answers, who is tried beside, and what is remembered of it (changes to `Known`)."""
        with self._lock:
            self.trials = trials
            self._line_up(champion)
            self.swaps += 1
            self._memory.champion(champion, **changes)
        fields = {"model": champion.model, "version": champion.version, "assignment": champion.assignment}
        _log.info("serving.model_swapped_in", extra=fields | {"scorer_sha256": champion.scorer_sha256})

    def end_trial(self, role: Role) -> None:
        """Deal nothing to a trial any more. What was dealt is answered."""
        with self._lock:
            if role in self.trials:
                self.trials = {other: trial for other, trial in self.trials.items() if other != role}
                self._line_up(self._slot.current)

    def take_away(self, line: Assignment) -> bool:
        """Nobody answers any more, by an explicit line of the ledger. False where a pin was set meanwhile: it keeps its champion."""
        with self._lock:
            if self.pin is not None:
                return False
            if self._slot.lineup is not None or self._memory.known is not None:
                self._slot.lineup, self.trials = None, {}
                self._memory.forget()
                _log.warning("serving.champion_taken_away", extra={"assignment": line.id, "by": line.by, "why": line.why})
            return True

    def _line_up(self, champion: Loaded | None) -> None:
        if champion is None:
            return
        canary, shadow = self.trials.get(Role.CANARY), self.trials.get(Role.SHADOW)
        lineup = LineUp(
            champion,
            canary.loaded if canary else None,
            canary.permille if canary else 0,
            shadow.loaded if shadow else None,
            shadow.permille if shadow else 0,
        )
        if not _same(lineup, self._slot.lineup):
            self._slot.lineup = lineup


def _same(one: LineUp, other: LineUp | None) -> bool:
    """By identity: whether two scorers are equal is not for us to ask."""
    if other is None or (one.canary_permille, one.shadow_permille) != (other.canary_permille, other.shadow_permille):
        return False
    return one.champion is other.champion and one.canary is other.canary and one.shadow is other.shadow
