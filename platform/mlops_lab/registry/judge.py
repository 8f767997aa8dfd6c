"""Does a challenger earn the place of the champion? Pure arithmetic on evidence: both models scored on the same rows.

The rule: squared error falls, and keeps falling when the days are drawn again; ranking, calibration, slices and latency do not suffer.
Ranking alone would promote a model with 30 % flipped labels, whose probabilities are worthless. Where evidence is missing the
champion stays.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mlops_lab.training import metrics
from mlops_lab.training.bootstrap import Days, Interval, draw_days
from mlops_lab.training.evaluate import evidence_problem, slice_values

Outcome = Literal["promote", "keep"]


@dataclass(frozen=True, slots=True, eq=False)
class PairedRows:
    """Evidence: labelled rows that neither model was trained on, scored by both.

    Attributes:
        labels: bool, shape (rows,).
        champion_p: Probabilities by the champion, shape (rows,).
        challenger_p: Probabilities by the challenger, same rows.
        days: The day of each row, such as datetime64[D].
        slices: By column name its value per row; "protected or large" groups that must not pay for the mean.
        latency_us: Time the challenger's scorer takes for one row, microseconds (a high quantile); None: not measured.
    """

    labels: NDArray[np.bool_]
    champion_p: NDArray[np.float64]
    challenger_p: NDArray[np.float64]
    days: NDArray[np.generic]
    slices: Mapping[str, NDArray[np.generic]]
    latency_us: float | None


@dataclass(frozen=True, slots=True, eq=False)
class FirstRows:
    """Evidence about the only candidate, when nothing serves yet. Attributes as in PairedRows."""

    labels: NDArray[np.bool_]
    challenger_p: NDArray[np.float64]
    days: NDArray[np.generic]
    slices: Mapping[str, NDArray[np.generic]]
    latency_us: float | None


@dataclass(frozen=True, slots=True)
class JudgeLimits:
    """What is asked of a challenger.

    Attributes:
        auc_tolerance: ROC AUC it may lose against the champion, 0 to 1.
        slice_rows: Rows from which a slice counts as large.
        slice_margin: Brier score that a large slice may lose.
        slices: Sliced columns that the evidence must hold.
        calibration_error: Largest expected calibration error; a challenger beyond it passes only if the champion's is larger still.
        latency_us: Budget for one row in process, microseconds.
        rows: Smallest number of rows.
        days: Smallest number of days.
        first_auc_low: Where there is no champion: the AUC's interval must lie above it.
    """

    auc_tolerance: float = 0.005
    slice_rows: int = 500
    slice_margin: float = 0.01
    slices: tuple[str, ...] = ()
    calibration_error: float = 0.10
    latency_us: float = 1_000.0
    rows: int = 2_000
    days: int = 7
    first_auc_low: float = 0.6


@dataclass(frozen=True, slots=True)
class Check:
    """One question and its answer.

    Attributes:
        name: What must hold, as a sentence.
        passed: Whether it held.
        measured: What was found, as text; "nothing" where it was not measured.
        limit: What was asked, as text.
    """

    name: str
    passed: bool
    measured: str
    limit: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """The outcome with its reasons. `promote` only if every check passed.

    Attributes:
        outcome: `promote`, or `keep` the champion (or the empty place).
        because: A sentence: the gain when promoted, the first failed check when kept.
        checks: All checks that were made, in order.
        figures: Measured numbers by name, for records.
    """

    outcome: Outcome
    because: str
    checks: tuple[Check, ...]
    figures: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, for the ledger."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Judgement":
        """The inverse of `to_dict`; what else the record holds is left aside. Raises KeyError or TypeError where it is not one."""
        checks = tuple(Check(**check) for check in values["checks"])
        return cls(values["outcome"], values["because"], checks, dict(values["figures"]))


def judge(evidence: PairedRows, limits: JudgeLimits, seed: int) -> Judgement:
    """Compare challenger and champion on the same rows.

    Never raises on bad evidence: what is missing, misshapen, NaN, too small or of one label keeps the champion, with a check that says so.

    Args:
        evidence: See PairedRows.
        limits: See JudgeLimits.
        seed: Of the draw over days.
    """
    unfit = _unfit(evidence, limits, evidence.champion_p, evidence.challenger_p)
    if unfit:
        return _judgement(unfit, "", {})
    y, old, new = evidence.labels, evidence.champion_p, evidence.challenger_p
    days = draw_days(evidence.days, seed)
    gain = days.mean(metrics.brier(old, y) - metrics.brier(new, y))
    auc_old, auc_new = metrics.roc_auc(old, y, days).value, metrics.roc_auc(new, y, days).value
    error_old, error_new = metrics.calibration_error(old, y, days).value, metrics.calibration_error(new, y, days).value
    checks = (
        *_size_checks(evidence.labels, days, limits),
        Check("the Brier gain's interval over days lies above 0", gain.low > 0, f"Brier gain {gain}", "above 0"),
        Check(
            "ranking is not worse",
            auc_new >= auc_old - limits.auc_tolerance,
            f"ROC AUC {auc_new:.4f} against {auc_old:.4f}",
            f"at most {limits.auc_tolerance:g} less",
        ),
        _calibration_check(error_new, max(limits.calibration_error, error_old)),
        *_slice_checks(evidence.slices, metrics.brier(new, y) - metrics.brier(old, y), limits),
        _latency_check(evidence.latency_us, limits),
    )
    figures = _figures("brier_gain", gain) | {
        "rows": float(len(y)),
        "days": float(days.count),
        "champion_roc_auc": auc_old,
        "challenger_roc_auc": auc_new,
        "champion_calibration_error": error_old,
        "challenger_calibration_error": error_new,
    }
    words = f"Brier gain {gain} on {len(y)} rows of {days.count} days, ROC AUC {auc_new - auc_old:+.4f}"
    return _judgement(checks, words, figures)


def judge_first(evidence: FirstRows, limits: JudgeLimits, seed: int) -> Judgement:
    """Is a model worth answering at all? Asked when there is no champion; otherwise as `judge`.

    It must beat the best constant answer (Brier skill interval above 0) and rank (ROC AUC interval above `first_auc_low`).
    """
    unfit = _unfit(evidence, limits, evidence.challenger_p)
    if unfit:
        return _judgement(unfit, "", {})
    y, p = evidence.labels, evidence.challenger_p
    days = draw_days(evidence.days, seed)
    skill, auc = metrics.brier_skill(p, y, days), metrics.roc_auc(p, y, days)
    error = metrics.calibration_error(p, y, days).value
    checks = (
        *_size_checks(y, days, limits),
        Check("the Brier skill's interval over days lies above 0", skill.low > 0, f"Brier skill {skill}", "above 0"),
        Check(
            "the ROC AUC's interval over days is high",
            auc.low > limits.first_auc_low,
            f"ROC AUC {auc}",
            f"above {limits.first_auc_low:g}",
        ),
        _calibration_check(error, limits.calibration_error),
        _latency_check(evidence.latency_us, limits),
    )
    figures = _figures("brier_skill", skill) | _figures("roc_auc", auc)
    figures |= {"rows": float(len(y)), "days": float(days.count), "calibration_error": error}
    return _judgement(checks, f"Brier skill {skill} and ROC AUC {auc} on {len(y)} rows of {days.count} days", figures)


def _judgement(checks: tuple[Check, ...], words: str, figures: dict[str, float]) -> Judgement:
    failed = [check for check in checks if not check.passed]
    if failed or not checks:
        because = "; ".join(f"{check.name}: {check.measured}, asked is {check.limit}" for check in failed) or "nothing was checked"
        return Judgement("keep", because, checks, figures)
    return Judgement("promote", words, checks, figures)


def _unfit(evidence: PairedRows | FirstRows, limits: JudgeLimits, *answers: NDArray[np.float64]) -> tuple[Check, ...]:
    """A failed check where the evidence cannot be measured at all, else nothing."""
    problems = [evidence_problem(p, evidence.labels, evidence.days, evidence.slices) for p in answers]
    problems += [f"the slices by '{name}' are missing" for name in limits.slices if name not in evidence.slices]
    problem = next((problem for problem in problems if problem), None)
    return (Check("the evidence is complete", False, problem, "labelled rows, scored, of several days"),) if problem else ()


def _size_checks(labels: NDArray[np.bool_], days: Days, limits: JudgeLimits) -> tuple[Check, ...]:
    return (
        Check("the evidence is complete", True, "every row is labelled and scored", "labelled rows, scored, of several days"),
        Check("there are enough rows", len(labels) >= limits.rows, f"{len(labels)} rows", f"at least {limits.rows}"),
        Check("there are enough days", days.count >= limits.days, f"{days.count} days", f"at least {limits.days}"),
    )


def _slice_checks(slices: Mapping[str, NDArray[np.generic]], loss: NDArray[np.float64], limits: JudgeLimits) -> tuple[Check, ...]:
    """One check per sliced column, about its worst large slice."""
    checks = []
    for name in sorted(slices):
        values, of_row = np.unique(slice_values(slices[name]), return_inverse=True)
        sizes = np.bincount(of_row.reshape(-1))
        losses = np.bincount(of_row.reshape(-1), weights=loss) / sizes
        large = np.flatnonzero(sizes >= limits.slice_rows)
        limit = f"at most {limits.slice_margin:g} more Brier score from {limits.slice_rows} rows on"
        if len(large):
            worst = large[np.argmax(losses[large])]
            measured = f"{values[worst]} {losses[worst]:+.4f} on {sizes[worst]} rows"
            passed = bool(losses[worst] <= limits.slice_margin)
        else:
            measured, passed = "no slice is large", True
        checks.append(Check(f"no large slice by '{name}' is worse", passed, measured, limit))
    return tuple(checks)


def _calibration_check(error: float, allowed: float) -> Check:
    return Check("calibration is within bounds", error <= allowed, f"calibration error {error:.4f}", f"at most {allowed:.4f}")


def _latency_check(latency_us: float | None, limits: JudgeLimits) -> Check:
    passed = latency_us is not None and 0 <= latency_us <= limits.latency_us
    measured = "nothing" if latency_us is None else f"{latency_us:.0f} µs"
    return Check("one row is scored within the budget", passed, measured, f"at most {limits.latency_us:.0f} µs")


def _figures(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
