"""Measures answers against what happened: overall with intervals over days, and slice by slice."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlops_lab.errors import EvidenceMissing
from mlops_lab.training import metrics
from mlops_lab.training.bootstrap import Interval, draw_days


@dataclass(frozen=True, slots=True)
class SliceMeasure:
    """One value of one sliced column.

    Attributes:
        column: Name of the column.
        value: Its value, as text; "(missing)" where nothing is known.
        rows: Rows of the slice.
        base_rate: Share of positive labels.
        mean_probability: What was answered on average; far from base_rate is bad calibration.
        brier: Mean squared error.
        roc_auc: None where the slice holds one label only.
    """

    column: str
    value: str
    rows: int
    base_rate: float
    mean_probability: float
    brier: float
    roc_auc: float | None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a model is worth on rows that it was not trained on. Definitions are in training.metrics."""

    rows: int
    days: int
    base_rate: Interval
    roc_auc: Interval
    brier: Interval
    brier_skill: Interval
    log_loss: Interval
    calibration_error: Interval
    slices: tuple[SliceMeasure, ...]

    def metrics(self) -> dict[str, float]:
        """Flat, for trackers: `name`, `name_low`, `name_high`, and the sizes."""
        flat: dict[str, float] = {"rows": float(self.rows), "days": float(self.days)}
        for field in fields(self):
            found = getattr(self, field.name)
            if isinstance(found, Interval):
                flat |= {field.name: found.value, f"{field.name}_low": found.low, f"{field.name}_high": found.high}
        return flat

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, for records."""
        return asdict(self)


def evaluate(
    probabilities: NDArray[np.float64],
    labels: NDArray[np.bool_],
    days: NDArray[np.generic],
    slices: Mapping[str, NDArray[np.generic]],
    seed: int,
) -> Evaluation:
    """Measure answers.

    Args:
        probabilities: In [0, 1], shape (rows,).
        labels: bool, shape (rows,).
        days: The day of each row, such as datetime64[D]; intervals are drawn over them.
        slices: By column name its value per row (numbers or text), shape (rows,) each.
        seed: Of the draw.

    Raises:
        EvidenceMissing: No rows, parts of different length, an answer that is no probability, one label only, or a single day.
    """
    problem = evidence_problem(probabilities, labels, days, slices)
    if problem:
        raise EvidenceMissing(f"Answers cannot be measured: {problem}.", "give labelled rows of several days, with both labels among them.")
    drawn = draw_days(days, seed)
    return Evaluation(
        rows=len(labels),
        days=drawn.count,
        base_rate=drawn.mean(labels.astype(np.float64)),
        roc_auc=metrics.roc_auc(probabilities, labels, drawn),
        brier=drawn.mean(metrics.brier(probabilities, labels)),
        brier_skill=metrics.brier_skill(probabilities, labels, drawn),
        log_loss=drawn.mean(metrics.log_loss(probabilities, labels)),
        calibration_error=metrics.calibration_error(probabilities, labels, drawn),
        slices=tuple(measure for name in sorted(slices) for measure in _measure_slices(name, slices[name], probabilities, labels)),
    )


def evidence_problem(
    probabilities: NDArray[np.float64],
    labels: NDArray[np.bool_],
    days: NDArray[np.generic],
    slices: Mapping[str, NDArray[np.generic]],
) -> str | None:
    """What makes these arrays unfit to measure anything, in words; None if nothing does."""
    lengths = {len(probabilities), len(labels), len(days), *(len(values) for values in slices.values())}
    if lengths == {0}:
        return "there are no rows"
    if len(lengths) != 1:
        return "its parts have different lengths"
    if labels.dtype != np.bool_:
        return f"labels are {labels.dtype}, not bool"
    if probabilities.dtype.kind != "f" or not bool(((probabilities >= 0) & (probabilities <= 1)).all()):  # NaN fails both comparisons
        return "some answers are no probabilities"
    if days.dtype.kind == "M" and bool(np.isnat(days).any()):
        return "some rows have no day"
    if bool(labels.all()) or not bool(labels.any()):
        return "all labels are alike"
    if len(np.unique(days)) < 2:
        return "all rows are of one day"
    return None


def slice_values(values: NDArray[np.generic]) -> NDArray[np.str_]:
    """The values of a sliced column as text; "(missing)" for None and NaN."""
    return np.array(["(missing)" if value is None or value != value else str(value) for value in values.tolist()])


def _measure_slices(
    name: str, values: NDArray[np.generic], probabilities: NDArray[np.float64], labels: NDArray[np.bool_]
) -> list[SliceMeasure]:
    texts = slice_values(values)
    measures = []
    for value in np.unique(texts):
        p, y = probabilities[texts == value], labels[texts == value]
        both = bool(y.any()) and not bool(y.all())
        one_day = draw_days(np.zeros(len(y)), seed=0, resamples=1)
        measures.append(
            SliceMeasure(
                column=name,
                value=str(value),
                rows=len(y),
                base_rate=float(y.mean()),
                mean_probability=float(p.mean()),
                brier=float(metrics.brier(p, y).mean()),
                roc_auc=metrics.roc_auc(p, y, one_day).value if both else None,
            )
        )
    return measures
