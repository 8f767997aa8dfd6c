"""A challenger earns the place of the champion on the same rows, day by day, or it does not get it."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mlops_lab.registry.judge import FirstRows, JudgeLimits, Judgement, PairedRows, judge, judge_first

LIMITS = JudgeLimits()


def a_fortnight(old_noise: float = 1.0, new_noise: float = 0.3, rows: int = 7_000, seed: int = 1) -> PairedRows:
    """Labels drawn from a truth; both models answer the truth with noise on the log-odds: less noise is a better model."""
    rng = np.random.default_rng(seed)
    days = np.datetime64("2013-07-01") + np.arange(rows) * 14 // rows
    truth = rng.normal(-1.0, 1.2, rows) + rng.normal(0, 0.5, 14)[np.arange(rows) * 14 // rows]
    odds = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    return PairedRows(
        labels=rng.random(rows) < odds(truth),
        champion_p=odds(truth + rng.normal(0, old_noise, rows)),
        challenger_p=odds(truth + rng.normal(0, new_noise, rows)),
        days=days,
        slices={"origin": rng.choice(["EWR", "JFK", "LGA"], rows), "carrier": rng.choice(["UA", "OO"], rows, p=[0.99, 0.01])},
        latency_us=20.0,
    )


def failed(judgement: Judgement) -> list[str]:
    assert judgement.outcome == ("keep" if [c for c in judgement.checks if not c.passed] else "promote")
    return [check.name for check in judgement.checks if not check.passed]


def test_a_clear_gain_on_every_measure_promotes() -> None:
    judgement = judge(a_fortnight(), LIMITS, seed=7)

    assert failed(judgement) == []
    assert judgement.because.startswith("Brier gain 0.0")
    assert "on 7000 rows of 14 days" in judgement.because
    assert judgement.figures["brier_gain_low"] > 0


def test_the_same_model_twice_changes_nothing() -> None:
    rows = a_fortnight()

    judgement = judge(replace(rows, challenger_p=rows.champion_p), LIMITS, seed=7)

    assert failed(judgement) == ["the Brier gain's interval over days lies above 0"]


def test_a_gain_that_the_days_do_not_confirm_changes_nothing() -> None:
    """One day makes all the gain: on average the challenger is better, but drawn again day by day it is not."""
    rows = a_fortnight(new_noise=1.0)
    lucky = np.asarray(rows.days == rows.days[-1])
    challenger = np.where(lucky, np.where(rows.labels, 0.9, 0.1), rows.champion_p)

    judgement = judge(replace(rows, challenger_p=challenger), LIMITS, seed=7)

    assert judgement.figures["brier_gain"] > 0.01
    assert failed(judgement) == ["the Brier gain's interval over days lies above 0"]
    assert judgement.because.startswith("the Brier gain's interval over days lies above 0: Brier gain 0.0")


def test_better_ranking_with_worthless_probabilities_is_refused() -> None:
    """The trap of ranking alone: the challenger orders better, but answers half of what it should."""
    rows = a_fortnight()

    judgement = judge(replace(rows, challenger_p=rows.challenger_p * 0.3), LIMITS, seed=7)

    assert judgement.figures["challenger_roc_auc"] > judgement.figures["champion_roc_auc"]
    assert "the Brier gain's interval over days lies above 0" in failed(judgement)
    assert "calibration is within bounds" in failed(judgement)


def test_a_better_mean_does_not_pay_for_worse_ranking() -> None:
    """The champion is badly calibrated, so that even an answer that ranks worse has less squared error."""
    rows = a_fortnight(old_noise=0.3, new_noise=0.9)

    judgement = judge(replace(rows, champion_p=rows.champion_p**4), LIMITS, seed=7)

    assert failed(judgement) == ["ranking is not worse"]


def test_a_large_slice_does_not_pay_for_the_mean_and_a_small_one_cannot_veto() -> None:
    rows = a_fortnight()
    worse = lambda where: replace(rows, challenger_p=np.where(where, 1 - rows.labels * 0.6 - 0.2, rows.challenger_p))  # noqa: E731
    jfk = np.asarray(rows.slices["origin"] == "JFK") & (np.arange(len(rows.labels)) % 12 == 0)
    tiny = np.asarray(rows.slices["carrier"] == "OO")

    assert "no large slice by 'origin' is worse" in failed(judge(worse(jfk), replace(LIMITS, slice_margin=0.002), seed=7))
    assert failed(judge(worse(tiny), LIMITS, seed=7)) == []


def test_a_badly_calibrated_challenger_passes_only_where_the_champion_is_worse_still() -> None:
    rows = a_fortnight(old_noise=0.5)
    shifted = replace(rows, challenger_p=np.clip(rows.challenger_p + 0.08, 0, 1))
    strict = replace(LIMITS, calibration_error=0.01)

    assert "calibration is within bounds" in failed(judge(shifted, strict, seed=7))
    stale = replace(shifted, champion_p=np.clip(rows.champion_p + 0.3, 0, 1))
    assert failed(judge(stale, strict, seed=7)) == []


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"latency_us": None}, "one row is scored within the budget"),
        ({"latency_us": 5_000.0}, "one row is scored within the budget"),
        ({"latency_us": float("nan")}, "one row is scored within the budget"),
        ({"champion_p": np.full(7_000, np.nan)}, "the evidence is complete"),
        ({"challenger_p": np.full(7_000, np.nan)}, "the evidence is complete"),
        ({"challenger_p": np.full(7_000, 1.5)}, "the evidence is complete"),
        ({"challenger_p": np.full(6_999, 0.5)}, "the evidence is complete"),
        ({"challenger_p": np.array(["0.5"] * 7_000)}, "the evidence is complete"),
        ({"labels": np.zeros(7_000, dtype=bool)}, "the evidence is complete"),
        ({"labels": np.full(7_000, np.nan)}, "the evidence is complete"),
        ({"days": np.full(7_000, np.datetime64("NaT"))}, "the evidence is complete"),
        ({"days": np.zeros(7_000)}, "the evidence is complete"),
        ({"slices": {"origin": np.array(["EWR"])}}, "the evidence is complete"),
        ({name: np.empty(0, dtype=bool if name == "labels" else float) for name in ("labels", "champion_p", "challenger_p", "days")}
         | {"slices": {}}, "the evidence is complete"),
    ],
)  # fmt: skip
def test_missing_or_broken_evidence_keeps_the_champion_and_says_so(change: dict[str, Any], check: str) -> None:
    """It never raises and never promotes: a judge that dies half way is no judge."""
    judgement = judge(replace(a_fortnight(), **change), LIMITS, seed=7)

    assert failed(judgement) == [check]
    assert judgement.outcome == "keep"


def test_too_few_rows_or_days_or_an_unmeasured_slice_keep_the_champion() -> None:
    rows = a_fortnight()

    assert failed(judge(rows, replace(LIMITS, rows=7_001), seed=7)) == ["there are enough rows"]
    assert failed(judge(rows, replace(LIMITS, days=15), seed=7)) == ["there are enough days"]
    judgement = judge(rows, replace(LIMITS, slices=("origin", "age")), seed=7)
    assert judgement.because.startswith("the evidence is complete: the slices by 'age' are missing")


def test_the_same_evidence_gives_the_same_judgement() -> None:
    rows = a_fortnight(old_noise=0.35)
    order = np.random.default_rng(0).permutation(len(rows.labels))
    turned = PairedRows(
        rows.labels[order], rows.champion_p[order], rows.challenger_p[order], rows.days[order],
        {name: values[order] for name, values in rows.slices.items()}, rows.latency_us,
    )  # fmt: skip

    assert judge(rows, LIMITS, seed=7).to_dict() == judge(rows, LIMITS, seed=7).to_dict()
    assert judge(turned, LIMITS, seed=7).outcome == judge(rows, LIMITS, seed=7).outcome
    assert judge(turned, LIMITS, seed=7).figures == pytest.approx(judge(rows, LIMITS, seed=7).figures)


def first(rows: PairedRows, **changes: Any) -> FirstRows:
    return replace(FirstRows(rows.labels, rows.challenger_p, rows.days, rows.slices, rows.latency_us), **changes)


def test_the_first_model_must_be_worth_more_than_a_constant() -> None:
    rows = a_fortnight()

    assert judge_first(first(rows), LIMITS, seed=7).outcome == "promote"
    constant = judge_first(first(rows, challenger_p=np.full(7_000, rows.labels.mean())), LIMITS, seed=7)
    assert failed(constant) == ["the Brier skill's interval over days lies above 0", "the ROC AUC's interval over days is high"]
    assert "calibration is within bounds" in failed(judge_first(first(rows, challenger_p=rows.challenger_p * 0.3), LIMITS, seed=7))
    assert failed(judge_first(first(rows, latency_us=None), LIMITS, seed=7)) == ["one row is scored within the budget"]
    assert failed(judge_first(first(rows, challenger_p=np.full(7_000, np.nan)), LIMITS, seed=7)) == ["the evidence is complete"]
