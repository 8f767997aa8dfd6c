"""Comparing a window with its reference, and the checks that every implementation shares."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd

from mlops_lab.errors import EvidenceMissing, NotEnoughData
from mlops_lab.features import Kind
from mlops_lab.monitoring.drift import Drift, Watched

SAMPLE = 5_000
"""Rows per side. The noise of a PSI over 14 bins is then about 0.005, far below any threshold."""


class DriftReport(Protocol):
    """Compares columns. Kept by `in_memory.py` and `on_evidently.py`; both give the same numbers on the same rows."""

    def prepare(self) -> None:
        """Do ahead what would make the first comparison slow."""
        ...

    def compare(self, reference: pd.DataFrame, current: pd.DataFrame, columns: Sequence[Watched], prediction: Watched, seed: int) -> Drift:
        """Measure how far each column of `current` is from `reference`.

        Args:
            reference: Rows the champion was trained on or first served, one column per watched name. The sample depends on the order of
                rows, so pass both tables sorted by key.
            current: Rows of the window, the same columns.
            columns: The inputs to compare, at least one.
            prediction: The column of answered probabilities.
            seed: Of the sample.

        Raises:
            NotEnoughData: A table is empty.
            EvidenceMissing: A column is absent, or holds something else than its kind says.
        """
        ...


@dataclass(frozen=True, slots=True)
class Sides:
    """Both tables, checked, sampled, cut to the watched columns; numbers are float64, infinite values count as missing."""

    reference: pd.DataFrame
    current: pd.DataFrame
    missing_before: dict[str, float]
    missing: dict[str, float]

    def empty(self, name: str) -> bool:
        """True if one side of this column has no value, so that no distance exists."""
        return self.missing_before[name] == 1 or self.missing[name] == 1


def prepare(reference: pd.DataFrame, current: pd.DataFrame, watched: Sequence[Watched], seed: int, sample: int) -> Sides:
    """Check, sample and clean both tables. Raises as `DriftReport.compare`."""
    if len(watched) < 2:
        raise EvidenceMissing("No input column is watched.", "name at least one feature of the model.")
    sides = []
    for name, table, salt in (("reference", reference, 0), ("window", current, 1)):
        absent = [w.name for w in watched if w.name not in table.columns]
        if absent:
            raise EvidenceMissing(f"The {name} has no column {', '.join(absent)}.", "read it again with all features of the champion.")
        if table.empty:
            raise NotEnoughData(f"The {name} has no rows, so nothing was compared.", "look at `lab status` for a feed that stopped.")
        rows = table[[w.name for w in watched]]
        if len(rows) > sample:
            chosen = np.random.default_rng((seed, salt)).choice(len(rows), size=sample, replace=False)
            rows = rows.iloc[np.sort(chosen)]
        sides.append(pd.DataFrame({w.name: _clean(rows[w.name], w) for w in watched}))
    missing_before, missing = ({str(name): float(share) for name, share in side.isna().mean().items()} for side in sides)
    return Sides(sides[0], sides[1], missing_before, missing)


def _clean(column: "pd.Series[object]", watched: Watched) -> "pd.Series[object]":
    column = column.reset_index(drop=True)
    if watched.kind is Kind.CATEGORY:
        present = column.notna()
        return column.astype(object).where(present, None).map(str, na_action="ignore")
    try:
        numbers = column.to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise EvidenceMissing(
            f"Column {watched.name} holds something else than numbers: {error}.", "watch it as a category, or repair the feed."
        ) from error
    return pd.Series(np.where(np.isfinite(numbers), numbers, np.nan))
