"""What a retraining policy costs before it is frozen: its false alarms and its misses, on years made of real weeks."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlops_lab.errors import NotEnoughData, SettingsWrong
from mlops_lab.monitoring.interval import DRAWS, TAILS, DaySums, Interval, bootstrap_mean, by_day, weights_of_days
from mlops_lab.retraining.policy import Policy

WEEK = 7
BLOCK_WEEKS = 2
"""Weeks that stay together in a resampled year, so that a spell of bad weather is not cut up and k of n sees its length."""

FLIPS = 8
"""Times each injected shift is drawn."""


@dataclass(frozen=True, slots=True)
class FalseAlarms:
    """What a policy does in years in which nothing changes.

    Attributes:
        weeks_firing: Share of weeks in which k of n holds, cooldown aside, 0 to 1.
        orders_per_year: Mean number of trainings ordered.
        years_with_order: Share of years with at least one, 0 to 1.
    """

    weeks_firing: float
    orders_per_year: float
    years_with_order: float


@dataclass(frozen=True, slots=True)
class Miss:
    """What a policy does when something changes for good.

    Attributes:
        shift: Share of the affected negative rows that become positive.
        unexplained: Mean unexplained loss under the shift.
        weeks_counted: Share of weeks that count, 0 to 1.
        missed: Share of years without an order within the given weeks, 0 to 1.
        weeks_to_order: Median over the others, 1 = at the end of the first changed week; None if there are none.
    """

    shift: float
    unexplained: float
    weeks_counted: float
    missed: float
    weeks_to_order: float | None

    def sentence(self, within: int) -> str:
        """Such as `  shift of 10% (unexplained loss 0.0420): missed in 3% of years after 8 weeks, otherwise ordered after 4.`"""
        found = "" if self.weeks_to_order is None else f", otherwise ordered after {self.weeks_to_order:g}"
        missed = f"missed in {self.missed:.0%} of years after {within} weeks"
        return f"  shift of {self.shift:.0%} (unexplained loss {self.unexplained:.4f}): {missed}{found}."


@dataclass(frozen=True, slots=True)
class RuleReport:
    """One policy: its false alarms and, by shift, its misses."""

    policy: Policy
    false_alarms: FalseAlarms
    misses: tuple[Miss, ...]


@dataclass(frozen=True, slots=True)
class PolicyReport:
    """All policies on the same years.

    Attributes:
        sample: Unexplained loss of the rows it was made from. An interval above 0 says that the model was not calibrated on them: then what
            looks like a false alarm is partly a true one.
        weeks_counted: Share of unchanged weeks that count, 0 to 1.
        years: Resampled years, of `weeks` weeks each.
        weeks: See above.
        within: Weeks after which a shift without an order is a miss.
        rules: One per policy, in the order given.
    """

    sample: Interval
    weeks_counted: float
    years: int
    weeks: int
    within: int
    rules: tuple[RuleReport, ...]

    def sentences(self) -> tuple[str, ...]:
        """The report for people, a line each."""
        lines = [f"Without change {self.weeks_counted:.0%} of weeks count; unexplained loss of the sample {self.sample}."]
        for rule in self.rules:
            alarms = rule.false_alarms
            lines.append(
                f"{rule.policy.k} of {rule.policy.n} weeks: fires in {alarms.weeks_firing:.1%} of unchanged weeks, "
                f"{alarms.orders_per_year:.2f} trainings a year, none in {1 - alarms.years_with_order:.0%} of years."
            )
            lines += [miss.sentence(self.within) for miss in rule.misses]
        return tuple(lines)


def policy_report(
    probabilities: ArrayLike,
    labels: ArrayLike,
    days: ArrayLike,
    policies: Sequence[Policy],
    *,
    seed: int,
    shifts: Sequence[float] = (0.05, 0.1, 0.2),
    affected: ArrayLike | None = None,
    years: int = 500,
    weeks: int = 39,
    within: int = 8,
) -> PolicyReport:
    """State what each policy would do, before any of the weeks it will judge were seen.

    A year is put together from blocks of two weeks drawn at random from the days given, of any first weekday. A shift makes a share of the
    affected negative rows positive, from the n-th week on; probabilities stay as they are, as those of a model that does not know yet.

    Args:
        probabilities: Out of sample (cross-fitted over days), shape (rows,), each 0 to 1.
        labels: Bool or 0/1, shape (rows,).
        days: Day of each row, shape (rows,); the different days are taken as following each other.
        policies: What to compare.
        seed: Of years, shifts and bootstrap: the same seed gives the same report.
        shifts: Shares, each above 0 and up to 1.
        affected: Bool, shape (rows,): rows the shift acts on; all if None.
        years: Resampled years.
        weeks: Weeks of a year.
        within: Weeks a policy has to notice.

    Raises:
        NotEnoughData: Fewer days than four weeks.
        EvidenceMissing: As `by_day`.
        SettingsWrong: No policy, a shift out of range, or a year too short for n + within weeks.

    Source: moving blocks, Künsch (1989).
    """
    short = not policies or within < 1 or years < 1 or weeks < max(policy.n for policy in policies) + within
    if short or not all(0 < shift <= 1 for shift in shifts):
        raise SettingsWrong(
            f"{len(policies)} policies, shifts {list(shifts)}, {years} years of {weeks} weeks with {within} to notice make no report.",
            "give at least one policy, shifts above 0 and up to 1, and years longer than n plus the weeks to notice.",
        )
    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(labels).astype(np.float64)
    sums = _unexplained(p, y, days)
    if sums.days.size < 2 * BLOCK_WEEKS * WEEK:
        raise NotEnoughData(f"{sums.days.size} days make no years.", f"give at least {2 * BLOCK_WEEKS * WEEK} days of labelled answers.")
    rng = np.random.default_rng(seed)
    starts = _years(sums.days.size, years, weeks, rng)
    rows = _week_sums(sums.rows)
    calm = _counts(sums, seed)
    stale = []
    for shift in shifts:
        drawn = [_unexplained(p, _shifted(y, shift, affected, rng), days) for _ in range(FLIPS)]
        stale.append((shift, float(np.mean([d.total.sum() / d.rows.sum() for d in drawn])), np.stack([_counts(d, seed) for d in drawn])))
    which = rng.integers(FLIPS, size=starts.shape)
    rules = []
    for policy in policies:
        enough = (rows >= policy.min_labels)[starts]
        flags = calm[starts] & enough
        misses = tuple(_miss(policy, flags, by_flip[which, starts] & enough, shift, loss, within) for shift, loss, by_flip in stale)
        rules.append(RuleReport(policy, _false_alarms(policy, flags), misses))
    return PolicyReport(bootstrap_mean(sums, seed), float(calm.mean()), years, weeks, within, tuple(rules))


def firing(flags: NDArray[np.bool_], policy: Policy) -> NDArray[np.bool_]:
    """Weeks in which k of n holds, the newest counting: the rule of `decide`. Shapes (years, weeks)."""
    seen = np.cumsum(flags, axis=1)
    before = np.zeros_like(seen)
    before[:, policy.n :] = seen[:, : -policy.n]
    return np.asarray(flags & (seen - before >= policy.k))


def orders(flags: NDArray[np.bool_], policy: Policy) -> NDArray[np.bool_]:
    """Weeks in which a training is ordered, if every earlier one has ended and changed nothing: firing, minus the cooldown."""
    wanted, given = firing(flags, policy), np.zeros(flags.shape, dtype=np.bool_)
    rest = -(-policy.cooldown // timedelta(weeks=1))  # whole weeks, rounded up: decisions are a week apart
    last = np.full(flags.shape[0], -max(rest, 1))
    for week in range(flags.shape[1]):
        given[:, week] = wanted[:, week] & (week - last >= rest)
        last[given[:, week]] = week
    return given


def _false_alarms(policy: Policy, flags: NDArray[np.bool_]) -> FalseAlarms:
    given = orders(flags, policy)
    return FalseAlarms(
        float(firing(flags, policy)[:, policy.n - 1 :].mean()), float(given.sum(axis=1).mean()), float(given.any(axis=1).mean())
    )


def _miss(policy: Policy, calm: NDArray[np.bool_], stale: NDArray[np.bool_], shift: float, loss: float, within: int) -> Miss:
    flags = np.concatenate([calm[:, : policy.n], stale[:, policy.n :]], axis=1)
    given = orders(flags, policy)[:, policy.n : policy.n + within]
    noticed = given.any(axis=1)
    after = given.argmax(axis=1)[noticed] + 1
    return Miss(shift, loss, float(stale[:, policy.n :].mean()), float(1 - noticed.mean()), float(np.median(after)) if after.size else None)


def _unexplained(p: NDArray[np.float64], y: NDArray[np.float64], days: ArrayLike) -> DaySums:
    return by_day((p - y) ** 2 - p * (1 - p), days)


def _shifted(y: NDArray[np.float64], share: float, affected: ArrayLike | None, rng: np.random.Generator) -> NDArray[np.float64]:
    hit = rng.random(y.size) < share
    return np.where(hit if affected is None else hit & np.asarray(affected, dtype=np.bool_), 1.0, y)


def _years(days: int, years: int, weeks: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """First day of each week of each year, shape (years, weeks)."""
    blocks = rng.integers(days - BLOCK_WEEKS * WEEK + 1, size=(years, -(-weeks // BLOCK_WEEKS)))
    return (blocks[:, :, None] + WEEK * np.arange(BLOCK_WEEKS)).reshape(years, -1)[:, :weeks]


def _week_sums(per_day: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.lib.stride_tricks.sliding_window_view(per_day, WEEK).sum(axis=1), dtype=np.float64)


def _counts(sums: DaySums, seed: int) -> NDArray[np.bool_]:
    """For each run of seven days, by its first: does its interval lie above 0? The bootstrap of `bootstrap_mean`, for all at once."""
    weights = weights_of_days(WEEK, DRAWS, seed).T
    totals = np.lib.stride_tricks.sliding_window_view(sums.total, WEEK) @ weights
    rows = np.lib.stride_tricks.sliding_window_view(sums.rows, WEEK) @ weights
    return np.asarray(np.quantile(totals / rows, TAILS[0], axis=1) > 0)
