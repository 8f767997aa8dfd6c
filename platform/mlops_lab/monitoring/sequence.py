"""Intervals that hold at every look. Arithmetic only: no clock, no I/O, no framework.

An ordinary 95 % interval is wrong 5 % of the time at one look that was fixed beforehand. Who looks every two seconds, and acts at the
first look that pleases, is wrong far more often. These intervals (confidence sequences) contain the truth at *all* looks together with
probability 1 - alpha, so one may look as often as one likes and stop when one likes.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TUNED_FOR = 500
"""Observations at which the intervals are about as narrow as they can be; a matter of width only, they hold at any number."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """An estimate and the interval that holds at every look; infinite where nothing can be said yet."""

    estimate: float
    low: float
    high: float


def share_bounds(hits: int, n: int, alpha: float, prior: tuple[float, float]) -> Bounds:
    """A share, from independent yes-or-no observations. Exact, for any number of them.

    Args:
        hits: Observations that are "yes", 0 to n.
        n: Observations; 0 gives 0 to 1.
        alpha: Chance that the interval ever misses the true share, 0 to 1.
        prior: Beta distribution over the shares that are tried against each hypothesis: it decides where the interval is narrow.

    Source: Robbins, Statistical methods related to the law of the iterated logarithm (1970): the beta-binomial mixture is a
    martingale under the true share, and by Ville's inequality it exceeds 1 / alpha ever with probability alpha at most.
    """
    if n == 0:
        return Bounds(math.nan, 0.0, 1.0)
    evidence = _log_beta(prior[0] + hits, prior[1] + n - hits) - _log_beta(*prior) + math.log(alpha)

    def refuted(share: float) -> bool:
        likelihood = (hits * math.log(share) if hits else 0.0) + ((n - hits) * math.log1p(-share) if hits < n else 0.0)
        return evidence >= likelihood

    found = hits / n
    low = 0.0 if hits == 0 else _edge(found, 0.0, refuted)
    high = 1.0 if hits == n else _edge(found, 1.0, refuted)
    return Bounds(found, low, high)


def median_bounds(values: NDArray[np.float64], alpha: float) -> Bounds:
    """A median, by counting how many values lie above: however heavy the tails are, one value counts as one. Exact.

    Args:
        values: Independent observations, shape (n,), in any order.
        alpha: Chance that the interval ever misses the true median, 0 to 1.

    Source: order statistics as in the sign test, with the mixture of `share_bounds` at a share of one half; Howard and Ramdas,
    Sequential estimation of quantiles (2022).
    """
    n = len(values)
    if n == 0:
        return Bounds(math.nan, -math.inf, math.inf)
    ordered = np.sort(values)
    middle = float(np.median(ordered))
    above = _refuting_half(n, alpha)
    if above > n:
        return Bounds(middle, -math.inf, math.inf)
    return Bounds(middle, float(ordered[n - above]), float(ordered[above - 1]))


def mean_bounds(values: NDArray[np.float64], alpha: float) -> Bounds:
    """The mean of independent observations; holds from some fifty observations on, as averages become normal.

    Args:
        values: Shape (n,), each from -1 to 1.
        alpha: Chance that the interval ever misses the true mean, 0 to 1.

    Source: the normal mixture of Robbins with an estimated variance; Waudby-Smith et al., Time-uniform central limit theory (2024).
    """
    n = len(values)
    if n < 2:
        return Bounds(float(values.mean()) if n else math.nan, -math.inf, math.inf)
    # One observation of doubt, a whole unit away: values that are all equal so far do not prove that they always are.
    spread = math.sqrt(float(values.var()) + 1 / n)
    log_alpha = -2 * math.log(alpha)
    precision = n * (log_alpha + math.log(log_alpha + 1)) / TUNED_FOR
    half = spread * math.sqrt((precision + 1) / (n * precision) * (log_alpha + math.log(precision + 1)))
    mean = float(values.mean())
    return Bounds(mean, mean - half, mean + half)


def _refuting_half(n: int, alpha: float) -> int:
    """How many of n have to lie on one side before one half is no longer possible; n + 1 where even all are not enough."""
    prior = 20.0
    needed = n * math.log(0.5) - math.log(alpha) + _log_beta(prior, prior)
    low, high = n // 2, n + 1
    while high - low > 1:  # the mixture grows from the middle outwards
        tried = (low + high) // 2
        if _log_beta(prior + tried, prior + n - tried) >= needed:
            high = tried
        else:
            low = tried
    return high


def _edge(inside: float, outside: float, refuted: Callable[[float], bool]) -> float:
    """The end of an interval that contains `inside`, to 1e-9."""
    for _ in range(60):
        tried = (inside + outside) / 2
        if refuted(tried):
            outside = tried
        else:
            inside = tried
        if abs(outside - inside) < 1e-9:
            break
    return outside


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
