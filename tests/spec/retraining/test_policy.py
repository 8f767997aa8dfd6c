"""The retraining policy: frozen numbers, and what they cost in false alarms and misses on resampled years."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from numpy.typing import NDArray

from mlops_lab.errors import NotEnoughData, SettingsWrong
from mlops_lab.gates.verdict import Finding, Verdict
from mlops_lab.monitoring import Interval, Performance, Window, performance
from mlops_lab.retraining import Decision, Orders, Outcome, Policy, WindowFacts, decide, policy_report
from mlops_lab.retraining.report import _counts, _unexplained, orders

STRICT = Policy(k=3, n=4, min_labels=100)
EAGER = Policy(k=2, n=3, min_labels=100)


def a_winter(moody: float = 0.05, seed: int = 1) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.datetime64]]:
    """Ninety days of 200 answers that are true in the long run, by a model that does not foresee a day's mood."""
    rng = np.random.default_rng(seed)
    days = np.repeat(np.arange("2013-01-01", "2013-04-01", dtype="datetime64[D]"), 200)
    p = rng.beta(2, 6, days.size)
    mood = np.repeat(rng.normal(0, moody, 90), 200)
    return p, rng.random(days.size) < np.clip(p + mood, 0, 1), days


@pytest.mark.parametrize(
    "change",
    [
        {"k": 0},
        {"k": 5},
        {"cooldown": timedelta(-1)},
        {"min_labels": 0},
        {"min_coverage": 0.0},
        {"min_coverage": 1.1},
        {"min_days": 1},
        {"orders_per_day": 0},
    ],
)
def test_a_policy_out_of_range_does_not_exist(change: dict[str, object]) -> None:
    with pytest.raises(SettingsWrong):
        replace(Policy(k=3, n=4), **change)  # type: ignore[arg-type]


def test_the_digest_names_every_number() -> None:
    changes = [
        {"k": 1},
        {"n": 6},
        {"cooldown": timedelta(1)},
        {"min_labels": 9},
        {"min_coverage": 0.5},
        {"min_days": 3},
        {"orders_per_day": 4},
    ]

    digests = {replace(Policy(), **change).digest() for change in changes} | {Policy().digest()}  # type: ignore[arg-type]

    assert len(digests) == 8
    assert Policy().digest() == Policy(k=3, n=4).digest()


@pytest.mark.parametrize("policy", [STRICT, EAGER, Policy(k=1, n=1, cooldown=timedelta(0)), Policy(k=2, n=4, cooldown=timedelta(days=10))])
def test_the_simulated_rule_is_the_rule_that_decides(policy: Policy) -> None:
    """The report would be worthless if it counted another way: week by week, `decide` orders exactly when the simulation does."""
    flags = np.random.default_rng(5).random((6, 39)) < 0.4
    low = {True: 0.01, False: -0.01}
    verdicts = Finding("rule", "t", True, True, 1, 0, "")

    for year in range(flags.shape[0]):
        history: list[Decision] = []
        window = Window.of_week("2013-W01")
        for counts in flags[year]:
            found = Performance(6_000, 0.7, 0.1, 0.2, 0.1, Interval(0.02, low[bool(counts)], 0.03, 6_000, 7))
            verdict = Verdict("window", window.id, "d", (verdicts,), {})
            history.append(decide(WindowFacts(window, 1, verdict, 6_000, 6_000, found, None, orders=Orders()), history, policy))
            window = Window(window.end, window.end + timedelta(weeks=1))
        assert [d.outcome is Outcome.RETRAIN for d in history] == orders(flags, policy)[year].tolist()


def test_a_simulated_week_counts_exactly_when_its_performance_does() -> None:
    p, y, days = a_winter()
    all_at_once = _counts(_unexplained(p, y.astype(float), days), seed=7)

    one_by_one = [performance(p[w], y[w], days[w], seed=7).counts for w in (slice(200 * d, 200 * (d + 7)) for d in range(84))]

    assert all_at_once.tolist() == one_by_one
    assert any(one_by_one)


def test_few_false_alarms_where_nothing_changes_and_three_of_four_has_the_fewest() -> None:
    report = policy_report(*a_winter(), [STRICT, EAGER], seed=7)
    strict, eager = (rule.false_alarms for rule in report.rules)

    assert report.weeks_counted < 0.15
    assert strict.weeks_firing < 0.02
    assert strict.weeks_firing <= eager.weeks_firing < 0.06
    assert strict.orders_per_year < 0.5


def test_a_lasting_change_is_found_the_sooner_the_larger_it_is() -> None:
    report = policy_report(*a_winter(), [STRICT], seed=7, shifts=(0.02, 0.1, 0.3))
    small, middle, large = report.rules[0].misses

    assert small.unexplained < middle.unexplained < large.unexplained
    assert small.missed >= middle.missed >= large.missed
    assert large.missed < 0.02
    assert large.weeks_to_order == 3, "the third bad week of three of four"


def test_a_change_of_a_few_rows_is_missed_and_the_report_says_so() -> None:
    p, y, days = a_winter()

    report = policy_report(p, y, days, [STRICT], seed=7, shifts=(0.3,), affected=np.arange(p.size) % 100 == 0)

    assert report.rules[0].misses[0].missed > 0.5
    assert "missed in" in report.sentences()[-1]


def test_the_report_is_a_function_of_its_seed() -> None:
    assert policy_report(*a_winter(), [EAGER], seed=7, years=50) == policy_report(*a_winter(), [EAGER], seed=7, years=50)
    assert policy_report(*a_winter(), [EAGER], seed=7, years=50) != policy_report(*a_winter(), [EAGER], seed=8, years=50)


def test_weeks_below_the_minimum_sample_order_nothing() -> None:
    report = policy_report(*a_winter(), [replace(EAGER, min_labels=5_000)], seed=7, years=50)

    assert report.rules[0].false_alarms.orders_per_year == 0
    assert all(miss.missed == 1 for miss in report.rules[0].misses)


def test_a_report_that_would_say_nothing_is_refused() -> None:
    p, y, days = a_winter()
    with pytest.raises(NotEnoughData):
        policy_report(p[:2_000], y[:2_000], days[:2_000], [STRICT], seed=1)
    for wrong in ({"shifts": (0.0,)}, {"years": 0}, {"weeks": 8}, {"within": 0}):
        with pytest.raises(SettingsWrong):
            policy_report(p, y, days, [STRICT], seed=1, **wrong)
    with pytest.raises(SettingsWrong):
        policy_report(p, y, days, [], seed=1)
