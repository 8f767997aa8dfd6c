"""How far columns have moved from their reference. Arithmetic only: no clock, no I/O, no framework.

The bins, the floor under empty bins and the treatment of missing values are Evidently's, so that twin and adapter give the same numbers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from mlops_lab.errors import EvidenceMissing
from mlops_lab.features import Feature, Kind

Shares = NDArray[np.float64]
"""Share of rows per bin, shape (bins,)."""

BINNED_ABOVE = 20
"""A numeric column with more different reference values than this is binned; otherwise each value is a bin."""

MISSING_MOVED = 0.1
"""A column has drifted too when its share of missing values moved by at least this much: no distance sees what is not there."""


class Method(StrEnum):
    """How the movement of a column is measured. All are distances: larger is further, whatever the number of rows."""

    PSI = "psi"
    JENSEN_SHANNON = "jensenshannon"


@dataclass(frozen=True, slots=True)
class Watched:
    """One column to compare: its name, kind, method, and the value from which it counts as drifted."""

    name: str
    kind: Kind
    method: Method
    threshold: float


@dataclass(frozen=True, slots=True)
class ColumnDrift:
    """What was found for one column.

    Attributes:
        name: Column.
        method: How it was measured.
        value: The distance; None where one side has no value at all.
        threshold: From which value on it counts as drifted.
        drifted: Value at or above the threshold, or the share of missing values moved by `MISSING_MOVED`.
        missing: Share of missing values in the window, 0 to 1.
        missing_before: The same in the reference.
    """

    name: str
    method: Method
    value: float | None
    threshold: float
    drifted: bool
    missing: float
    missing_before: float


@dataclass(frozen=True, slots=True)
class Drift:
    """One window against the reference.

    Attributes:
        columns: The inputs, in the order asked.
        prediction: The answered probability.
        rows: Rows compared of the window, after sampling.
        reference_rows: Rows compared of the reference, after sampling.
    """

    columns: tuple[ColumnDrift, ...]
    prediction: ColumnDrift
    rows: int
    reference_rows: int

    @property
    def share(self) -> float:
        """Share of input columns that drifted, 0 to 1."""
        return len(self.drifted) / len(self.columns) if self.columns else 0.0

    @property
    def drifted(self) -> tuple[str, ...]:
        """Names of the inputs that drifted."""
        return tuple(column.name for column in self.columns if column.drifted)

    @property
    def unmeasured(self) -> tuple[str, ...]:
        """Names of the columns, prediction included, for which there is no distance."""
        return tuple(c.name for c in (*self.columns, self.prediction) if c.value is None or not math.isfinite(c.value))


def plan(features: Sequence[Feature], *, psi: float = 0.2, jensenshannon: float = 0.1) -> tuple[Watched, ...]:
    """What to compare for a model's features: PSI for numbers, Jensen-Shannon distance for categories.

    Categories come and go, and PSI would give one new rare value a distance that hangs on the floor under empty bins alone.
    """
    return tuple(
        Watched(f.name, f.kind, Method.PSI, psi) if f.kind is Kind.NUMBER else Watched(f.name, f.kind, Method.JENSEN_SHANNON, jensenshannon)
        for f in features
    )


def column_drift(watched: Watched, value: float | None, missing: float, missing_before: float) -> ColumnDrift:
    """Put a measured distance and the missing shares together; the one rule for twin and adapter. A distance that is no number is None."""
    if value is not None and not math.isfinite(value):
        value = None
    drifted = (value is not None and value >= watched.threshold) or abs(missing - missing_before) >= MISSING_MOVED
    return ColumnDrift(watched.name, watched.method, value, watched.threshold, drifted, missing, missing_before)


def population_stability_index(reference: Shares, current: Shares) -> float:
    """Score the distance between two binned distributions.

    Args:
        reference: Share of rows per bin, shape (bins,), none 0 (see `floored`).
        current: The same bins in the same order, same shape.

    Returns:
        Sum of (current - reference) * ln(current / reference), in nats; 0 means no movement, no upper bound.

    Raises:
        EvidenceMissing: The two were cut into different bins.

    Source: Siddiqi, Credit Risk Scorecards (2006). Its 0.10 and 0.25 bands are convention, not a significance test.
    """
    _same_bins(reference, current)
    return float(np.sum((current - reference) * np.log(current / reference)))


def jensen_shannon_distance(reference: Shares, current: Shares) -> float:
    """Square root of the Jensen-Shannon divergence in nats: 0 means no movement, sqrt(ln 2) = 0.83 nothing in common.

    Raises:
        EvidenceMissing: The two were cut into different bins.

    Source: Endres and Schindelin, A new metric for probability distributions (2003).
    """
    _same_bins(reference, current)
    p, q = reference / reference.sum(), current / current.sum()
    middle = (p + q) / 2
    divergence = (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2
    return float(np.sqrt(max(divergence, 0.0)))


def kolmogorov_smirnov(reference: NDArray[np.float64], current: NDArray[np.float64]) -> float:
    """Largest gap between two empirical distribution functions, 0 to 1; raw values, not bins, of any two lengths.

    Raises:
        EvidenceMissing: A side has no value.
    """
    if not reference.size or not current.size:
        raise EvidenceMissing("One side of the comparison has no value.", "compare columns that have values in both.")
    a, b = np.sort(reference), np.sort(current)
    both = np.concatenate([a, b])
    gaps = np.searchsorted(a, both, side="right") / a.size - np.searchsorted(b, both, side="right") / b.size
    return float(np.abs(gaps).max())


def number_shares(reference: NDArray[np.float64], current: NDArray[np.float64]) -> tuple[Shares, Shares]:
    """Cut two numeric columns (no NaN, not empty) into common bins: Sturges' rule over both, or one bin per value if there are few."""
    if np.unique(reference).size <= BINNED_ABOVE:
        return value_shares(reference, current)
    edges = np.histogram_bin_edges(np.concatenate([reference, current]), bins="sturges")
    return np.histogram(reference, edges)[0] / reference.size, np.histogram(current, edges)[0] / current.size


def value_shares(reference: NDArray[np.generic], current: NDArray[np.generic]) -> tuple[Shares, Shares]:
    """One bin per different value of two columns (no missing values, not empty), in sorted order."""
    values, index = np.unique(np.concatenate([reference, current]), return_inverse=True)
    before = np.bincount(index[: reference.size], minlength=values.size)
    now = np.bincount(index[reference.size :], minlength=values.size)
    return before / reference.size, now / current.size


def floored(shares: Shares) -> Shares:
    """Empty bins get 0.0001, or a millionth of the smallest share if that is at most 0.0001, so that a logarithm exists."""
    smallest = shares[shares > 0].min()
    return np.where(shares == 0, smallest / 10**6 if smallest <= 0.0001 else 0.0001, shares)


def _relative_entropy(p: Shares, q: Shares) -> float:
    present = p > 0
    return float(np.sum(p[present] * np.log(p[present] / q[present])))


def _same_bins(reference: Shares, current: Shares) -> None:
    if reference.shape != current.shape or not reference.size:
        raise EvidenceMissing(f"{reference.shape} and {current.shape} are not the same bins.", "cut both columns with one call.")
