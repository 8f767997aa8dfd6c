"""The drift report, on Evidently 0.7: one named method per column, no tests, no figures unless a page is asked for.

What it costs (13 columns, 5,000 rows a side, one slow core): importing Evidently 5 s, once per process; a comparison 0.15 s; a page 0.8 s.
Evidently paints two plotly figures per column whether anybody looks or not, four fifths of a run, so its calculation is used without
them: its own preset takes 1.15 s for the same numbers.
"""

import os
import warnings
from abc import ABC
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mlops_lab.errors import EvidenceMissing
from mlops_lab.features import Kind
from mlops_lab.monitoring.drift import Drift, Watched, column_drift
from mlops_lab.monitoring.port import SAMPLE, Sides, prepare


class EvidentlyDrift:
    """Keeps `DriftReport` by Evidently. Nothing is imported before the first comparison.

    Evidently drops missing values before it measures, so a column that falls silent would look unmoved: missing shares are compared here.
    """

    def __init__(self, sample: int = SAMPLE) -> None:
        self._sample = sample

    def prepare(self) -> None:
        _evidently()

    def compare(self, reference: pd.DataFrame, current: pd.DataFrame, columns: Sequence[Watched], prediction: Watched, seed: int) -> Drift:
        watched = (*columns, prediction)
        sides = prepare(reference, current, watched, seed, self._sample)
        present = [w for w in watched if not sides.empty(w.name)]
        distances = _distances(_run(sides, present, painted=False), present) if present else {}
        found = tuple(column_drift(w, distances.get(w.name), sides.missing[w.name], sides.missing_before[w.name]) for w in watched)
        return Drift(found[:-1], found[-1], rows=len(sides.current), reference_rows=len(sides.reference))

    def page(
        self, path: Path, reference: pd.DataFrame, current: pd.DataFrame, columns: Sequence[Watched], prediction: Watched, seed: int
    ) -> Path:
        """Write Evidently's own HTML page (about 4 MB, self-contained, opens offline) of the same comparison. Raises as `compare`."""
        watched = (*columns, prediction)
        sides = prepare(reference, current, watched, seed, self._sample)
        snapshot = _run(sides, [w for w in watched if not sides.empty(w.name)], painted=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        snapshot.save_html(str(path))
        return path


@cache
def _evidently() -> tuple[Any, Any, Any]:
    """Evidently's package, its drift metric, and the same metric without figures."""
    os.environ.setdefault("DO_NOT_TRACK", "true")  # read when the package is imported: no usage data leaves this machine
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its import warns of numpy.core and of litestar, neither of which we use
        import evidently
        from evidently.metrics import ValueDrift
        from evidently.metrics.column_statistics import ValueDriftCalculation

        class BareDrift(ValueDrift):  # type: ignore[misc]  # untyped base
            """`ValueDrift`, measured by the calculation below."""

        # Without ABC among its bases Evidently would make this the calculation of `ValueDrift` itself, and every page would be empty.
        class BareDriftCalculation(ValueDriftCalculation, ABC):  # type: ignore[misc]  # untyped base
            """Evidently's calculation, unpainted. Should a later release paint elsewhere, the values stay and only the time is lost."""

            def _render(self, *_: object) -> list[object]:
                return []

        BareDrift.__calculation_type__ = BareDriftCalculation
    return evidently, ValueDrift, BareDrift


def _run(sides: Sides, watched: Sequence[Watched], *, painted: bool) -> Any:
    evidently, value_drift, bare_drift = _evidently()
    metric = value_drift if painted else bare_drift
    definition = evidently.DataDefinition(
        numerical_columns=[w.name for w in watched if w.kind is Kind.NUMBER],
        categorical_columns=[w.name for w in watched if w.kind is Kind.CATEGORY],
    )
    report = evidently.Report([metric(column=w.name, method=w.method.value, threshold=w.threshold) for w in watched], include_tests=False)
    current, reference = (evidently.Dataset.from_pandas(side, data_definition=definition) for side in (sides.current, sides.reference))
    try:
        return report.run(current, reference)  # in this order
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise EvidenceMissing(
            f"Evidently could not compare the window: {error}.", "run the same comparison with the in-memory drift report."
        ) from error


def _distances(snapshot: Any, watched: Sequence[Watched]) -> dict[str, float]:
    found = {metric["config"]["column"]: float(metric["value"]) for metric in snapshot.dict()["metrics"]}
    if set(found) != {w.name for w in watched} or not np.isfinite(list(found.values())).all():
        raise EvidenceMissing(
            "Evidently's result is not one number per column.", "run the same comparison with the in-memory drift report."
        )
    return found
