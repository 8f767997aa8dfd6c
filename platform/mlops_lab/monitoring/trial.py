"""What a canary's trial leaves of each request: a few numbers, in pairs with the champion. Arithmetic only: no clock, no I/O."""

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CUTS = np.linspace(0.05, 0.95, 19)
"""Probabilities at which the two distributions are compared."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One request that was dealt to the canary.

    Attributes:
        error: Whether the canary failed; the champion then answered, and there is nothing of the canary's to compare.
        canary_us: Its scoring time in microseconds; None after an error.
        champion_us: The champion's, on the same rows.
        canary: Its probabilities, shape (rows,); empty after an error.
        champion: The champion's for the same rows.
        canary_first: Who was scored first: the second finds the rows in the processor's cache.
    """

    error: bool
    canary_us: float | None
    champion_us: float
    canary: Sequence[float]
    champion: Sequence[float]
    canary_first: bool = True


class Evidence:
    """All trials so far, as the few numbers per request that a verdict needs."""

    def __init__(self) -> None:
        self.requests = 0
        self.errors = 0
        self.longest_run = 0
        self._run = 0
        self._unmatched: tuple[list[float], list[float]] = ([], [])
        self._log_ratios = array("d")
        self._shifts = array("d")
        self._crossings = array("d")

    def add(self, trial: Trial) -> None:
        """Take in one request; in the order in which they were answered, as far as it is known."""
        self.requests += 1
        if trial.error:
            self.errors += 1
            self._run += 1
            self.longest_run = max(self.longest_run, self._run)
            return
        self._run = 0
        if trial.canary_us and trial.canary_us > 0 and trial.champion_us > 0:
            self._match(math.log(trial.canary_us / trial.champion_us), trial.canary_first)
        # Rows of one request have more in common than two requests, so the request is the unit and its rows are averaged.
        canary, champion = np.asarray(trial.canary, dtype=np.float64), np.asarray(trial.champion, dtype=np.float64)
        self._shifts.append(float((canary - champion).mean()))
        crossed = (canary[:, None] <= CUTS).mean(axis=0) - (champion[:, None] <= CUTS).mean(axis=0)
        self._crossings.extend(crossed.tolist())

    def _match(self, log_ratio: float, canary_first: bool) -> None:
        """Average two ratios that were measured in opposite order. Coming second is worth some ten percent: unmatched, the ratios lie on
        two heaps, and their median on either of them."""
        same, opposite = self._unmatched if canary_first else self._unmatched[::-1]
        if opposite:
            self._log_ratios.append((log_ratio + opposite.pop()) / 2)
        else:
            same.append(log_ratio)

    @property
    def log_ratios(self) -> NDArray[np.float64]:
        """Logarithm of canary's by champion's scoring time, each the average of two in opposite order, shape (matched,)."""
        return np.array(self._log_ratios)

    @property
    def shifts(self) -> NDArray[np.float64]:
        """Mean difference of probabilities per request, shape (compared,)."""
        return np.array(self._shifts)

    @property
    def crossings(self) -> NDArray[np.float64]:
        """Per request the difference of the two cumulative distributions at each cut, shape (compared, cuts)."""
        return np.array(self._crossings).reshape(-1, len(CUTS))
