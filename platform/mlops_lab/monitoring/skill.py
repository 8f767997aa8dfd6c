"""How good the answers were, and how much worse than the model itself expected. Arithmetic only: no clock, no I/O, no framework."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlops_lab.errors import EvidenceMissing, NotEnoughData
from mlops_lab.monitoring.interval import Interval, bootstrap_mean, by_day


@dataclass(frozen=True, slots=True)
class Performance:
    """What the labels of one window say about the probabilities that were answered.

    Attributes:
        n: Labelled rows.
        auc: ROC AUC, 0 to 1; None where all labels are equal.
        brier: Mean of (p - y)^2, 0 to 1, lower is better.
        base_rate: Share of positive labels.
        brier_skill: 1 - brier / (b * (1 - b)) with b the window's own base rate: 1 is perfect, 0 is as good as answering b always,
            below 0 is worse. None where all labels are equal.
        unexplained: Mean of (p - y)^2 - p * (1 - p): the loss the model did not see coming, around 0 while its probabilities are true.

    Raises:
        EvidenceMissing: A number is NaN or infinite, or the interval rests on other rows.
    """

    n: int
    auc: float | None
    brier: float
    base_rate: float
    brier_skill: float | None
    unexplained: Interval

    def __post_init__(self) -> None:
        numbers = (self.brier, self.base_rate, self.auc or 0.0, self.brier_skill or 0.0)
        if not all(map(math.isfinite, numbers)) or self.unexplained.rows != self.n:
            raise EvidenceMissing(
                "A performance holds something else than numbers about its own rows.", "measure the window again with `lab watch`."
            )

    @property
    def counts(self) -> bool:
        """True if the window counts towards retraining: the whole interval of the unexplained loss lies above 0."""
        return self.unexplained.above_zero


def performance(probabilities: ArrayLike, labels: ArrayLike, days: ArrayLike, seed: int) -> Performance:
    """Measure one window of answers by one model version.

    Args:
        probabilities: Of the positive class, shape (n,), each 0 to 1.
        labels: Bool or 0/1, shape (n,).
        days: Day of each row, shape (n,), for the bootstrap.
        seed: Of the bootstrap.

    Raises:
        NotEnoughData: No rows, or all of one day.
        EvidenceMissing: Lengths differ, a value is NaN, a probability is outside 0 to 1, or a label is neither 0 nor 1.

    Source: Brier (1950); the expected loss p * (1 - p) is the idea of confidence-based performance estimation (NannyML).
    """
    p, y = _probabilities(probabilities), _labels(labels)
    _same_length(p, y)
    loss = (p - y) ** 2
    unexplained = bootstrap_mean(by_day(loss - p * (1 - p), days), seed)
    brier, base_rate = float(loss.mean()), float(y.mean())
    spread = base_rate * (1 - base_rate)
    return Performance(
        n=int(y.size),
        auc=roc_auc(p, y),
        brier=brier,
        base_rate=base_rate,
        brier_skill=1 - brier / spread if spread else None,
        unexplained=unexplained,
    )


def paired_loss(p_new: ArrayLike, p_old: ArrayLike, labels: ArrayLike, days: ArrayLike, seed: int) -> Interval:
    """By how much the Brier score of a new model is worse than that of an old one on the same rows; above 0 the new one is worse.

    Args:
        p_new: Probabilities of the present champion, shape (n,), each 0 to 1.
        p_old: Probabilities of its predecessor on the same rows, shape (n,).
        labels: Bool or 0/1, shape (n,).
        days: Day of each row, shape (n,).
        seed: Of the bootstrap.

    Raises:
        NotEnoughData, EvidenceMissing: As `performance`.
    """
    new, old, y = _probabilities(p_new), _probabilities(p_old), _labels(labels)
    _same_length(new, y)
    _same_length(old, y)
    return bootstrap_mean(by_day((new - y) ** 2 - (old - y) ** 2, days), seed)


def roc_auc(p: NDArray[np.float64], y: NDArray[np.float64]) -> float | None:
    """Probability that a positive row is ranked above a negative one, ties counting half; None if one class is absent.

    Source: Mann-Whitney U by mid-ranks, Hanley and McNeil (1982).
    """
    positive = int(y.sum())
    negative = y.size - positive
    if not positive or not negative:
        return None
    _, index, counts = np.unique(p, return_inverse=True, return_counts=True)
    mid_rank = np.cumsum(counts) - (counts - 1) / 2
    return float((mid_rank[index][y == 1].sum() - positive * (positive + 1) / 2) / (positive * negative))


def _probabilities(values: ArrayLike) -> NDArray[np.float64]:
    p = np.asarray(values, dtype=np.float64)
    if not p.size:
        raise NotEnoughData("There are no answered rows to measure.", "wait for labels, or look at `lab status` for a feed that stopped.")
    if not ((p >= 0) & (p <= 1)).all():  # a NaN fails this too
        raise EvidenceMissing("A probability is missing or outside 0 to 1.", "find the rows in the prediction log; nothing was measured.")
    return p


def _labels(values: ArrayLike) -> NDArray[np.float64]:
    y = np.asarray(values)
    if y.dtype.kind not in "biuf" or not np.isin(y, (0, 1)).all():
        raise EvidenceMissing("A label is missing or neither 0 nor 1.", "keep labelled rows only; rows without a label lower the coverage.")
    return y.astype(np.float64)


def _same_length(p: NDArray[np.float64], y: NDArray[np.float64]) -> None:
    if p.ndim != 1 or p.shape != y.shape:
        raise EvidenceMissing(f"{p.shape} probabilities and {y.shape} labels do not belong together.", "pass one label per probability.")
