"""Whether a canary goes on, is aborted, or has passed. Arithmetic only: no clock, no I/O, no framework.

Each request that was dealt to the canary was scored by the champion too, on the same rows and at the same moment, so everything is
compared in pairs: what made one of them slow, or one row difficult, met both. The question is put again every couple of seconds; the
intervals hold at all looks together (`sequence.py`), so looking often does not make false alarms more likely.
"""

import math
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from numpy import float64
from numpy.typing import NDArray

from mlops_lab.audit import digest_of
from mlops_lab.monitoring.sequence import Bounds, mean_bounds, median_bounds, share_bounds
from mlops_lab.monitoring.trial import CUTS, Evidence

ERROR_PRIOR = (0.5, 50.0)
"""Where the interval of the error rate is narrow: around one percent."""

COMPARABLE = 50
"""Requests that both versions scored before their means are looked at: averages of fewer are not normal yet."""


class Outcome(StrEnum):
    """What becomes of a canary."""

    CONTINUE = "continue"
    ABORT = "abort"
    PASSED = "passed"


class Cause(StrEnum):
    """Why a canary was aborted."""

    ERRORS = "errors"
    LATENCY = "latency"
    SCORES = "scores"
    NO_DATA = "no_data"
    INCONCLUSIVE = "inconclusive"

    @property
    def bars(self) -> bool:
        """Whether the version stays out until somebody forces it: what errs or answers otherwise is wrong wherever it runs, while what
        is slow, or was hardly asked, may be tried again under other limits or with more traffic."""
        return self in (Cause.ERRORS, Cause.SCORES)


@dataclass(frozen=True, slots=True)
class CanaryLimits:
    """What a canary may do, and how long it may take to show it.

    Attributes:
        error_rate: Share of requests it may fail, 0 to 1.
        errors_in_a_row: So many failures one after the other end it at once.
        latency_ratio: Median of its scoring time by the champion's on the same rows.
        score_shift: Mean difference of its probabilities from the champion's, either way, 0 to 1.
        score_distance: Largest difference of the two cumulative distributions of probabilities, 0 to 1.
        min_requests: Requests below which it does not pass.
        min_s: Seconds below which it does not pass.
        deadline_s: Seconds after which it is aborted unless it has passed.
        alpha: Chance, over all looks and all four comparisons, that an interval misses the truth.
    """

    error_rate: float = 0.01
    errors_in_a_row: int = 5
    latency_ratio: float = 1.25
    score_shift: float = 0.06
    score_distance: float = 0.15
    min_requests: int = 500
    min_s: float = 60.0
    deadline_s: float = 1800.0
    alpha: float = 0.01

    def digest(self) -> str:
        """SHA-256 of the canonical JSON: the identity under which they act."""
        return digest_of(asdict(self))


@dataclass(frozen=True, slots=True)
class Figures:
    """What the trials say so far; the intervals hold at every look.

    Attributes:
        requests: Dealt to the canary.
        errors: Of them, failed by it.
        longest_run: Failures in a row.
        error_rate: 0 to 1.
        latency_ratio: Median of canary's by champion's scoring time.
        score_shift: Mean difference of probabilities, -1 to 1.
        score_distance: Between the distributions of probabilities, 0 to 1.
    """

    requests: int
    errors: int
    longest_run: int
    error_rate: Bounds
    latency_ratio: Bounds
    score_shift: Bounds
    score_distance: Bounds

    def to_dict(self) -> dict[str, Any]:
        """As JSON; what is not known yet is null."""
        return {name: _known(value) for name, value in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class Verdict:
    """One look at a canary.

    Attributes:
        outcome: What to do.
        cause: Why it is aborted; None otherwise.
        because: A sentence.
        elapsed_s: Since its share was given.
        figures: What it rests on.
    """

    outcome: Outcome
    cause: Cause | None
    because: str
    elapsed_s: float
    figures: Figures

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        cause = None if self.cause is None else str(self.cause)
        said = {"outcome": str(self.outcome), "cause": cause, "because": self.because, "elapsed_s": round(self.elapsed_s, 1)}
        return said | {"figures": self.figures.to_dict()}


def figures_of(evidence: Evidence, alpha: float) -> Figures:
    """Measure the evidence, each of the four comparisons with a quarter of `alpha`."""
    each = alpha / 4
    ratio = median_bounds(evidence.log_ratios, each)
    return Figures(
        requests=evidence.requests,
        errors=evidence.errors,
        longest_run=evidence.longest_run,
        error_rate=share_bounds(evidence.errors, evidence.requests, each, ERROR_PRIOR),
        latency_ratio=Bounds(*(math.exp(value) for value in (ratio.estimate, ratio.low, ratio.high))),
        score_shift=mean_bounds(evidence.shifts, each) if len(evidence.shifts) >= COMPARABLE else _NOTHING,
        score_distance=_distance(evidence.crossings, each),
    )


def judge_canary(evidence: Evidence, elapsed_s: float, limits: CanaryLimits) -> Verdict:
    """Look at a canary once.

    Harm that is proven aborts, whatever else is open; all four proven harmless passes, once the least time and number are reached;
    whatever is still open at the deadline aborts too, since a canary that nobody asked has shown nothing.
    """
    figures = figures_of(evidence, limits.alpha)

    def verdict(outcome: Outcome, because: str, cause: Cause | None = None) -> Verdict:
        return Verdict(outcome, cause, because, elapsed_s, figures)

    harm = _harm(figures, limits)
    if harm is not None:
        return verdict(Outcome.ABORT, harm[1], harm[0])
    open_questions = _open(figures, limits)
    enough = figures.requests >= limits.min_requests
    if enough and elapsed_s >= limits.min_s and not open_questions:
        return verdict(Outcome.PASSED, f"{figures.requests} requests, every upper bound below its limit: {_summary(figures)}")
    if elapsed_s >= limits.deadline_s:
        if not enough:
            asked = f"{figures.requests} of at least {limits.min_requests} requests within {limits.deadline_s:.0f} s"
            return verdict(Outcome.ABORT, f"too little was seen of it: {asked}", Cause.NO_DATA)
        because = f"after {limits.deadline_s:.0f} s and {figures.requests} requests it is still open whether {open_questions[0]}"
        return verdict(Outcome.ABORT, because, Cause.INCONCLUSIVE)
    if not enough:
        return verdict(Outcome.CONTINUE, f"{figures.requests} of at least {limits.min_requests} requests")
    if open_questions:
        return verdict(Outcome.CONTINUE, f"still open: whether {open_questions[0]}")
    return verdict(Outcome.CONTINUE, f"{elapsed_s:.0f} of at least {limits.min_s:.0f} s")


def _harm(figures: Figures, limits: CanaryLimits) -> tuple[Cause, str] | None:
    rate, ratio, shift, distance = figures.error_rate, figures.latency_ratio, figures.score_shift, figures.score_distance
    if figures.longest_run >= limits.errors_in_a_row:
        return Cause.ERRORS, f"it failed {figures.longest_run} requests in a row"
    if rate.low > limits.error_rate:
        failed = f"it failed {figures.errors} of {figures.requests} requests"
        return Cause.ERRORS, f"{failed}, {rate.estimate:.1%} (at least {rate.low:.1%}, allowed {limits.error_rate:.1%})"
    if ratio.low > limits.latency_ratio:
        times = f"{ratio.estimate:.2f} times the champion's (at least {ratio.low:.2f}, allowed {limits.latency_ratio:.2f})"
        return Cause.LATENCY, f"its median scoring time is {times}"
    if max(shift.low, -shift.high) > limits.score_shift:
        by = f"{shift.estimate:+.3f} (at least {max(shift.low, -shift.high):.3f}, allowed {limits.score_shift:.3f})"
        return Cause.SCORES, f"its probabilities differ from the champion's by {by} on average"
    if distance.low > limits.score_distance:
        by = f"{distance.estimate:.2f} (at least {distance.low:.2f}, allowed {limits.score_distance:.2f})"
        return Cause.SCORES, f"its probabilities are distributed otherwise than the champion's, by {by}"
    return None


def _open(figures: Figures, limits: CanaryLimits) -> list[str]:
    """What is not proven yet, as the second half of a sentence each."""
    rate, ratio, shift, distance = figures.error_rate, figures.latency_ratio, figures.score_shift, figures.score_distance
    questions = (
        (rate.high < limits.error_rate, f"it fails less than {limits.error_rate:.1%} (at most {rate.high:.2%} so far)"),
        (ratio.high < limits.latency_ratio, f"it takes less than {limits.latency_ratio:.2f} times the champion's time ({ratio.high:.2f})"),
        (
            max(shift.high, -shift.low) < limits.score_shift,
            f"its probabilities differ by less than {limits.score_shift:.3f} on average ({max(shift.high, -shift.low):.3f})",
        ),
        (distance.high < limits.score_distance, f"its distribution differs by less than {limits.score_distance:.2f} ({distance.high:.2f})"),
    )
    return [text for proven, text in questions if not proven]


def _distance(crossings: NDArray[float64], alpha: float) -> Bounds:
    """The largest difference over the cuts, with an interval that all cuts share. The idea of Kolmogorov and Smirnov, on pairs."""
    if len(crossings) < COMPARABLE:
        return _NOTHING
    each = [mean_bounds(column, alpha / len(CUTS)) for column in crossings.T]
    return Bounds(
        max(abs(cut.estimate) for cut in each),
        max(0.0, *(max(cut.low, -cut.high) for cut in each)),
        max(max(cut.high, -cut.low) for cut in each),
    )


def _summary(figures: Figures) -> str:
    rate, ratio, shift, distance = figures.error_rate, figures.latency_ratio, figures.score_shift, figures.score_distance
    return (
        f"errors {rate.estimate:.1%} (at most {rate.high:.2%}), time {ratio.estimate:.2f} (at most {ratio.high:.2f}), "
        f"scores {shift.estimate:+.3f} (at most {max(shift.high, -shift.low):.3f}), distribution {distance.estimate:.2f} "
        f"(at most {distance.high:.2f})"
    )


def _known(value: Any) -> Any:
    """JSON has no infinity and no NaN."""
    if isinstance(value, dict):
        return {name: _known(each) for name, each in value.items()}
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value


_NOTHING = Bounds(math.nan, -math.inf, math.inf)
