"""Skill: what arrived labels say about the answers, with an uncertainty that knows that the rows of one day belong together."""

import numpy as np
import pytest
from numpy.typing import NDArray

from mlops_lab.errors import EvidenceMissing, LabError, NotEnoughData
from mlops_lab.monitoring import Interval, paired_loss, performance
from mlops_lab.monitoring.interval import bootstrap_mean, by_day
from mlops_lab.monitoring.skill import roc_auc

WEEK = np.repeat(np.arange("2013-06-03", "2013-06-10", dtype="datetime64[D]"), 900)


def a_week(seed: int, late_more: float = 0.0) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Answers that are true on average, plus a share of rows that are late without the model expecting it."""
    rng = np.random.default_rng(seed)
    p = rng.beta(2, 6, WEEK.size)
    return p, (rng.random(WEEK.size) < p) | (rng.random(WEEK.size) < late_more)


def test_true_probabilities_leave_no_loss_unexplained() -> None:
    found = performance(*a_week(1), WEEK, seed=7)

    assert found.n == 6_300
    assert abs(found.unexplained.mean) < 0.005
    assert found.unexplained.days == 7
    assert not found.counts


def test_a_week_that_is_later_than_the_model_expects_counts() -> None:
    found = performance(*a_week(1, late_more=0.15), WEEK, seed=7)

    assert found.unexplained.low > 0
    assert found.counts


def test_a_hard_week_is_not_a_stale_model() -> None:
    """Answers of one half are as bad as can be, but the model says so itself: its Brier score is high and nothing is unexplained."""
    rng = np.random.default_rng(3)
    p = np.full(WEEK.size, 0.5)

    found = performance(p, rng.random(WEEK.size) < p, WEEK, seed=7)

    assert found.brier == pytest.approx(0.25)
    assert abs(found.unexplained.mean) < 1e-12


def test_the_arithmetic_is_the_textbook_s() -> None:
    p, y, days = [0.9, 0.8, 0.3, 0.3, 0.1, 0.6], [1, 0, 1, 0, 0, 1], [1, 1, 1, 2, 2, 2]

    found = performance(p, y, days, seed=1)

    assert found.brier == pytest.approx((0.01 + 0.64 + 0.49 + 0.09 + 0.01 + 0.16) / 6)
    assert found.base_rate == 0.5
    assert found.brier_skill == pytest.approx(1 - found.brier / 0.25)
    assert found.auc == pytest.approx((3 + 2 + 1.5) / 9)  # pairs won by each positive row, the tie counts half
    expected = sum(q * (1 - q) for q in p) / 6
    assert found.unexplained.mean == pytest.approx(found.brier - expected)


def test_auc_needs_both_classes() -> None:
    p = np.array([0.2, 0.4, 0.6])

    assert roc_auc(p, np.ones(3)) is None
    assert performance(p, [0, 0, 0], [1, 2, 3], seed=1).brier_skill is None


def test_the_interval_is_over_days_and_not_over_rows() -> None:
    """One storm delays a thousand rows: when the rows of a day are equal, repeating each row a hundred times adds no certainty."""
    by_hand = np.array([0.0, 0.1, 0.0, 0.3, 0.0, 0.1, 0.0])

    few = bootstrap_mean(by_day(by_hand, np.arange(7)), seed=5)
    many = bootstrap_mean(by_day(np.repeat(by_hand, 100), np.repeat(np.arange(7), 100)), seed=5)

    assert (many.mean, many.low, many.high) == pytest.approx((few.mean, few.low, few.high))
    assert (few.rows, many.rows, many.days) == (7, 700, 7)


def test_the_vectorised_bootstrap_is_the_plain_one() -> None:
    """Drawing whole days in a loop and averaging their rows gives the same interval, up to the noise of 2,000 draws."""
    rng = np.random.default_rng(11)
    rows_of_day = [rng.normal(day / 10, 1, size=50 * (day + 1)) for day in range(7)]
    values, days = np.concatenate(rows_of_day), np.repeat(np.arange(7), [r.size for r in rows_of_day])

    fast = bootstrap_mean(by_day(values, days), seed=1)
    slow = [np.concatenate([rows_of_day[d] for d in rng.integers(7, size=7)]).mean() for _ in range(2_000)]

    width = fast.high - fast.low
    assert fast.mean == pytest.approx(values.mean())
    assert np.quantile(slow, [0.025, 0.975]) == pytest.approx([fast.low, fast.high], abs=0.1 * width)


def test_the_same_seed_gives_the_same_interval_and_the_order_of_rows_does_not_matter() -> None:
    p, y = a_week(2)
    shuffled = np.random.default_rng(9).permutation(WEEK.size)

    first, again = performance(p, y, WEEK, seed=7), performance(p, y, WEEK, seed=7)
    other = performance(p[shuffled], y[shuffled], WEEK[shuffled], seed=7)

    assert first == again
    assert (other.unexplained.low, other.auc) == pytest.approx((first.unexplained.low, first.auc), rel=1e-9)


def test_true_probabilities_rarely_count() -> None:
    """False alarms of one week whose days differ: 2.5 % in theory, about 5.6 % with seven days only; 10 % is the bound."""
    counted = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        mood = np.repeat(rng.normal(0, 0.05, 7), 900)  # what a day has in common
        p = rng.beta(2, 6, WEEK.size)
        counted += performance(p, rng.random(WEEK.size) < np.clip(p + mood, 0, 1), WEEK, seed=seed).counts

    assert counted / 300 < 0.10


def test_a_worse_model_on_the_same_rows_is_seen_where_two_weeks_apart_would_not_be() -> None:
    p, y = a_week(4)
    worse = np.clip(p + np.random.default_rng(5).normal(0, 0.1, p.size), 0, 1)

    assert paired_loss(worse, p, y, WEEK, seed=7).above_zero
    assert paired_loss(p, worse, y, WEEK, seed=7).high < 0
    assert paired_loss(p, p, y, WEEK, seed=7) == Interval(0, 0, 0, rows=6_300, days=7)


@pytest.mark.parametrize(
    ("p", "y", "days"),
    [
        ([0.5, np.nan], [0, 1], [1, 2]),
        ([0.5, 1.1], [0, 1], [1, 2]),
        ([0.5, 0.5], [0, 2], [1, 2]),
        ([0.5, 0.5], [0, np.nan], [1, 2]),
        ([0.5, 0.5], [0, None], [1, 2]),
        ([0.5, 0.5], [0, 1, 1], [1, 2]),
        ([0.5, 0.5], [0, 1], [1, 2, 3]),
        ([0.5, 0.5], [0, 1], np.array(["2013-01-01", "NaT"], dtype="datetime64[D]")),
        ([0.5, 0.5], [0, 1], [1.0, 2.0]),
        ([0.5, 0.5], [0, 1], ["2013-01-01", None]),
    ],
)
def test_what_is_missing_is_refused_and_never_averaged_away(p: object, y: object, days: object) -> None:
    with pytest.raises(EvidenceMissing) as refused:
        performance(p, y, days, seed=1)  # type: ignore[arg-type]

    assert refused.value.next_step


@pytest.mark.parametrize(("p", "y", "days"), [([], [], []), ([0.5, 0.5], [0, 1], [1, 1])])
def test_no_rows_or_one_day_are_not_enough(p: list[float], y: list[int], days: list[int]) -> None:
    with pytest.raises(NotEnoughData):
        performance(p, y, days, seed=1)


@pytest.mark.parametrize("bounds", [(0.1, float("nan"), 0.2), (0.1, 0.3, 0.2), (float("inf"), 0.1, 0.2)])
def test_an_interval_without_bounds_does_not_exist(bounds: tuple[float, float, float]) -> None:
    with pytest.raises(LabError):
        Interval(*bounds, rows=10, days=5)


def test_a_value_that_is_no_number_is_never_summed() -> None:
    with pytest.raises(EvidenceMissing, match="1 of 3 values"):
        by_day(np.array([0.1, np.nan, 0.2]), [1, 2, 3])
