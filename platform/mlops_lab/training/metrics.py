"""How good probabilities are, with intervals over days. Arithmetic only; no clock, no framework."""

import numpy as np
from numpy.typing import NDArray

from mlops_lab.training.bootstrap import Counts, Days, Interval

BINS = 10
"""Of the calibration error: equal numbers of rows in each."""
_SMALLEST = 1e-15


def brier(probabilities: NDArray[np.float64], labels: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The squared error of each row, in [0, 1]; its mean is the Brier score, 0 is best."""
    return (probabilities - labels) ** 2


def log_loss(probabilities: NDArray[np.float64], labels: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Minus the logarithm of the probability given to what happened, in nats, per row."""
    given = np.where(labels, probabilities, 1 - probabilities)
    return np.asarray(-np.log(np.clip(given, _SMALLEST, 1.0)))


def roc_auc(probabilities: NDArray[np.float64], labels: NDArray[np.bool_], days: Days) -> Interval:
    """The share of (positive, negative) pairs that are ranked right, ties half; NaN where one label is missing.

    Pairs are counted once per pair of days, so that a resample is a small matrix product instead of a new ranking:
    exact, whatever the number of resamples.
    """
    wins = _wins_by_day(probabilities, labels, days)
    positives, negatives = days.sums(labels.astype(np.float64)), days.sums((~labels).astype(np.float64))

    def statistic(counts: Counts) -> NDArray[np.float64]:
        pairs = (counts @ positives) * (counts @ negatives)
        return np.asarray(((counts @ wins) * counts).sum(axis=1) / pairs)

    return days.interval(statistic)


def _wins_by_day(probabilities: NDArray[np.float64], labels: NDArray[np.bool_], days: Days) -> NDArray[np.float64]:
    """Pairs ranked right, ties half, by the day of the positive (first axis) and of the negative (second)."""
    positive_p, positive_day = probabilities[labels], days.of_row[labels]
    order = np.argsort(positive_p)
    positive_p, positive_day = positive_p[order], positive_day[order]
    negative_p, negative_day = probabilities[~labels], days.of_row[~labels]
    wins = np.zeros((days.count, days.count))
    for day in range(days.count):
        against = np.sort(negative_p[negative_day == day])
        beaten = (np.searchsorted(against, positive_p, side="left") + np.searchsorted(against, positive_p, side="right")) / 2
        wins[:, day] = np.bincount(positive_day, weights=beaten, minlength=days.count)
    return wins


def brier_skill(probabilities: NDArray[np.float64], labels: NDArray[np.bool_], days: Days) -> Interval:
    """1 - Brier score / that of always answering these rows' own base rate: the best constant, known only in hindsight.

    Above 0 the answers are worth more than the constant; 1 is perfect; no lower bound.
    """
    losses = days.sums(brier(probabilities, labels))
    positives, sizes = days.sums(labels.astype(np.float64)), days.sums(np.ones(len(labels)))

    def statistic(counts: Counts) -> NDArray[np.float64]:
        rows = counts @ sizes
        rate = (counts @ positives) / rows
        return np.asarray(1 - (counts @ losses) / rows / (rate * (1 - rate)))

    return days.interval(statistic)


def calibration_error(probabilities: NDArray[np.float64], labels: NDArray[np.bool_], days: Days) -> Interval:
    """Expected calibration error: mean distance of answered and realised share over ten bins of equal size, in [0, 1].

    Resampled days add noise that does not cancel, so the interval leans upwards.
    """
    edges = np.unique(np.quantile(probabilities, np.linspace(0, 1, BINS + 1)[1:-1]))
    bin_of_row = np.searchsorted(edges, probabilities, side="right")
    cells = days.of_row * (len(edges) + 1) + bin_of_row
    gaps = np.bincount(cells, weights=probabilities - labels, minlength=days.count * (len(edges) + 1)).reshape(days.count, -1)
    sizes = days.sums(np.ones(len(labels)))
    return days.interval(lambda counts: np.asarray(np.abs(counts @ gaps).sum(axis=1) / (counts @ sizes)))
