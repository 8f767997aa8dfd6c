"""The drift report in numpy: milliseconds, no framework to import. For labs, tests, and wherever Evidently is not installed."""

from collections.abc import Sequence

import pandas as pd

from mlops_lab.features import Kind
from mlops_lab.monitoring.drift import (
    Drift,
    Method,
    Watched,
    column_drift,
    floored,
    jensen_shannon_distance,
    number_shares,
    population_stability_index,
    value_shares,
)
from mlops_lab.monitoring.port import SAMPLE, Sides, prepare


class InMemoryDrift:
    """Keeps `DriftReport` by the arithmetic of `drift.py`."""

    def __init__(self, sample: int = SAMPLE) -> None:
        self._sample = sample

    def prepare(self) -> None:
        """Nothing is slow here."""

    def compare(self, reference: pd.DataFrame, current: pd.DataFrame, columns: Sequence[Watched], prediction: Watched, seed: int) -> Drift:
        watched = (*columns, prediction)
        sides = prepare(reference, current, watched, seed, self._sample)
        found = tuple(column_drift(w, _distance(w, sides), sides.missing[w.name], sides.missing_before[w.name]) for w in watched)
        return Drift(found[:-1], found[-1], rows=len(sides.current), reference_rows=len(sides.reference))


def _distance(watched: Watched, sides: Sides) -> float | None:
    if sides.empty(watched.name):
        return None
    reference, current = (side[watched.name].dropna().to_numpy() for side in (sides.reference, sides.current))
    cut = number_shares if watched.kind is Kind.NUMBER else value_shares
    before, now = cut(reference, current)
    if watched.method is Method.PSI:
        return population_stability_index(floored(before), floored(now))
    return jensen_shannon_distance(before, now)
