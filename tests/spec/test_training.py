"""From rows to a model that is data: reproducible byte by byte, equal to the pipeline it was exported from, measured over days."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from mlops_lab.errors import EvidenceMissing, FeaturesWrong, NotEnoughData, ScorerRefused, SettingsWrong
from mlops_lab.features.view import Feature, Kind
from mlops_lab.scoring import Forest, Scorer, Split
from mlops_lab.training import Recipe, evaluate, metrics
from mlops_lab.training.bootstrap import draw_days
from mlops_lab.training.export import check_parity, export
from mlops_lab.training.on_sklearn import SklearnFitted, fit
from mlops_lab.training.rows import TrainingRows, values_of
from model_builders import FEATURES, NEW_YEAR, a_recipe, some_rows


@pytest.fixture(scope="module")
def fitted() -> SklearnFitted:
    return fit(a_recipe(), some_rows())


def shuffled(rows: TrainingRows, seed: int = 5) -> TrainingRows:
    return rows.take(np.random.default_rng(seed).permutation(len(rows)))


def test_the_scorer_answers_exactly_like_the_pipeline(fitted: SklearnFitted) -> None:
    """10,000 rows as they are, and again with unknown categories, gaps, values far out of range and exactly on a threshold."""
    parity = check_parity(fitted, Scorer.from_bytes(export(fitted)), some_rows(seed=2).features, tolerance=1e-9)

    assert parity.rows == 20_000
    assert parity.max_difference <= 1e-9


def test_a_scorer_that_answers_otherwise_is_not_published(fitted: SklearnFitted) -> None:
    """The check sees a single leaf, a single direction for missing values and a single threshold that is off."""
    forest, rows = fitted.forest(), some_rows().features

    def with_root(root: Split) -> Forest:
        return replace(forest, trees=((root, *forest.trees[0][1:]), *forest.trees[1:]))

    root = forest.trees[0][0]
    assert isinstance(root, Split)
    assert root.threshold is not None
    spoilt = (
        replace(forest, baseline=forest.baseline + 1e-4),
        with_root(replace(root, missing_left=not root.missing_left)),
        with_root(replace(root, threshold=math.nextafter(root.threshold, -math.inf))),
    )
    for wrong in spoilt:
        with pytest.raises(ScorerRefused, match="differs from the pipeline"):
            check_parity(fitted, Scorer.from_bytes(wrong.to_bytes()), rows)
    with pytest.raises(EvidenceMissing):
        check_parity(fitted, Scorer.from_bytes(forest.to_bytes()), rows.iloc[:0])


def test_training_the_same_order_twice_gives_the_same_digest(fitted: SklearnFitted) -> None:
    """Whatever the order in which the rows come; and another seed of data is another model."""
    assert fit(a_recipe(), shuffled(some_rows())).forest().digest() == fitted.forest().digest()
    assert fit(a_recipe(), some_rows(seed=9)).forest().digest() != fitted.forest().digest()


def test_categories_may_be_rare_missing_throughout_or_absent() -> None:
    """300 names share 250 codes; a column without a known value, or a recipe of one kind only, is exported as it is fitted."""
    rows = some_rows(3_000)
    names = np.array([f"N{i:03d}" for i in range(300)], dtype=object)
    many = names[np.minimum(np.random.default_rng(0).geometric(0.01, len(rows)) - 1, 299)]
    frame = rows.features.assign(destination=many, origin=pd.Series([None] * len(rows), dtype=object))
    wide = replace(rows, features=frame)
    for features in (FEATURES, FEATURES[3:], FEATURES[1:2], (FEATURES[2],)):
        model = fit(a_recipe(features=features), wide)
        assert check_parity(model, Scorer.from_bytes(export(model)), frame).max_difference <= 1e-9
    assert len(set(fit(a_recipe(), wide).forest().categories["destination"].values())) == 250


def test_what_cannot_train_a_model_is_refused() -> None:
    rows = some_rows()
    with pytest.raises(NotEnoughData, match="39 rows"):
        fit(a_recipe(), rows.take(np.arange(39)))
    with pytest.raises(NotEnoughData):
        fit(a_recipe(), replace(rows, labels=np.zeros(len(rows), dtype=bool)))
    with pytest.raises(FeaturesWrong, match="no column 'wind'"):
        fit(a_recipe(), replace(rows, features=rows.features.drop(columns="wind")))
    with pytest.raises(FeaturesWrong, match="'wind' is a number"):
        fit(a_recipe(), replace(rows, features=rows.features.assign(wind="strong")))
    with pytest.raises(FeaturesWrong, match="'origin' holds 5, which is not text"):
        fit(a_recipe(), replace(rows, features=rows.features.assign(origin=5)))


def test_a_recipe_says_which_field_is_wrong_and_equal_recipes_have_one_digest() -> None:
    assert a_recipe().digest() == a_recipe().digest() != a_recipe(rounds=21).digest()
    assert a_recipe().digest() != a_recipe(features=FEATURES[::-1]).digest()
    for field, value in {
        "rounds": 0,
        "learning_rate": 0.0,
        "max_leaf_nodes": 33,
        "min_samples_leaf": 0,
        "l2": math.nan,
        "seed": -1,
    }.items():
        with pytest.raises(SettingsWrong, match=field):
            a_recipe(**{field: value})
    with pytest.raises(SettingsWrong, match="features"):
        Recipe("twice", (FEATURES[0], FEATURES[0]))


def test_the_digest_of_rows_is_of_their_content() -> None:
    """Order of rows and columns, kind of missing and sign of zero do not matter; each value, label, moment and key does."""
    rows = some_rows(200)
    frame = rows.features

    assert shuffled(rows).digest() == rows.digest()
    assert replace(rows, features=frame[frame.columns[::-1]]).digest() == rows.digest()
    other_missing = frame.assign(destination=frame["destination"].where(frame["destination"].notna(), np.nan))
    assert replace(rows, features=other_missing).digest() == rows.digest()
    zeros = [replace(rows, features=frame.assign(wind=zero)).digest() for zero in (0.0, -0.0)]
    assert zeros[0] == zeros[1]
    others = (
        replace(rows, features=frame.assign(wind=frame["wind"] + 1e-9)),
        replace(rows, features=frame.assign(origin="EWR")),
        replace(rows, features=frame.rename(columns={"wind": "gust"})),
        replace(rows, labels=~rows.labels),
        replace(rows, moments=rows.moments + np.timedelta64(1, "us")),
        replace(rows, keys=np.char.add(rows.keys, "x")),
        rows.take(np.arange(199)),
    )
    assert len({rows.digest(), *(other.digest() for other in others)}) == 8


def test_rows_are_cut_by_moment_and_put_together_by_key() -> None:
    rows = some_rows(200, days=10)
    cut = NEW_YEAR + timedelta(days=4)

    early, late = rows.before(cut), rows.since(cut)

    assert (len(early), len(late)) == (80, 120)
    assert early.concat(late).digest() == rows.digest()
    captured = replace(late, features=late.features.assign(wind=1.0))
    assert captured.concat(rows).before(NEW_YEAR + timedelta(days=99)).digest() == early.concat(captured).digest(), "the first part wins"
    with pytest.raises(ValueError, match="time zone"):
        rows.before(datetime(2013, 1, 1))  # noqa: DTZ001  a naive time is what must be refused
    assert rows.days[0] == np.datetime64("2013-01-01")
    assert rows.before(datetime(2012, 1, 1, tzinfo=UTC)).digest(), "no rows have a digest too"


def test_rows_that_do_not_fit_together_are_refused() -> None:
    rows = some_rows(10)
    wrong = (
        {"labels": rows.labels[:9]},
        {"labels": rows.labels.astype(float)},
        {"moments": rows.moments.astype("datetime64[ns]")},
        {"moments": np.full(10, np.datetime64("NaT"), dtype="datetime64[us]")},
        {"keys": np.array(["same"] * 10)},
    )
    for change in wrong:
        with pytest.raises(FeaturesWrong):
            replace(rows, **change)
    with pytest.raises(FeaturesWrong):
        rows.concat(replace(some_rows(10), features=rows.features[["hour"]]))


def test_values_are_what_the_scorer_takes() -> None:
    frame = pd.DataFrame({"destination": ["BOS", None], "hour": [7, 8], "wind": [np.nan, 2.5], "origin": ["EWR", np.nan]})

    assert values_of(frame, FEATURES) == [(7.0, "EWR", None, "BOS"), (8.0, None, 2.5, None)]


def a_month(seed: int = 4) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64]]:
    """Answers with ties, labels that follow them, and 30 days that differ in luck."""
    rng = np.random.default_rng(seed)
    days = np.repeat(np.arange(30), 100)
    p = np.round(np.clip(rng.beta(2, 5, len(days)) + rng.normal(0, 0.1, 30)[days], 0.01, 0.99), 2)
    return p, rng.random(len(days)) < p, days


def test_metrics_are_those_of_scikit_learn() -> None:
    """Checked against the reference implementation, ties included; the interval holds the value."""
    from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

    p, y, days = a_month()
    found = evaluate(p, y, days, {}, seed=1)

    assert found.roc_auc.value == pytest.approx(roc_auc_score(y, p), abs=1e-12)
    assert found.brier.value == pytest.approx(brier_score_loss(y, p), abs=1e-12)
    assert found.log_loss.value == pytest.approx(log_loss(y, p), abs=1e-12)
    assert found.brier_skill.value == pytest.approx(1 - found.brier.value / (y.mean() * (1 - y.mean())), abs=1e-12)
    assert (found.rows, found.days, found.base_rate.value) == (3_000, 30, pytest.approx(y.mean()))
    for interval in (found.roc_auc, found.brier, found.log_loss, found.brier_skill, found.base_rate):
        assert interval.low < interval.value < interval.high


def test_a_resampled_ranking_is_that_of_the_repeated_rows() -> None:
    """The matrix of pairs per day gives what ranking the drawn rows anew would give."""
    from sklearn.metrics import roc_auc_score

    p, y, days = a_month()
    drawn = draw_days(days, seed=3, resamples=5)
    expected = [roc_auc_score(np.repeat(y, c[days].astype(int)), np.repeat(p, c[days].astype(int))) for c in drawn.counts]

    found = metrics.roc_auc(p, y, drawn)

    low, high = np.quantile(expected, (0.025, 0.975))
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-12), pytest.approx(high, abs=1e-12))


def test_intervals_are_drawn_over_days_not_rows() -> None:
    """When all rows of a day share their luck, a thousand rows a day are worth no more than one."""
    luck = np.random.default_rng(0).random(20)
    few, many = (draw_days(np.repeat(np.arange(20), n), seed=1).mean(np.repeat(luck, n)) for n in (1, 1_000))

    assert (few.low, few.high) == (pytest.approx(many.low), pytest.approx(many.high))


def test_the_same_seed_gives_the_same_evaluation_whatever_the_order() -> None:
    p, y, days = a_month()
    order = np.random.default_rng(2).permutation(len(p))
    slices = {"origin": np.where(days % 2, "EWR", "JFK")}

    first = evaluate(p, y, days, slices, seed=1)
    again = evaluate(p[order], y[order], days[order], {"origin": slices["origin"][order]}, seed=1)

    assert again.metrics() == pytest.approx(first.metrics(), abs=1e-9)
    assert evaluate(p, y, days, slices, seed=1) == first
    assert evaluate(p, y, days, slices, seed=2) != first


def test_slices_are_measured_one_by_one_and_missing_is_a_slice() -> None:
    p, y, days = a_month()
    origin = np.array(["EWR", None] * 1_500, dtype=object)
    y = np.where(origin == "EWR", y, True)

    measured = {one.value: one for one in evaluate(p, y, days, {"origin": origin}, seed=1).slices}

    assert set(measured) == {"EWR", "(missing)"}
    assert measured["EWR"].rows == 1_500
    assert measured["EWR"].base_rate == pytest.approx(y[origin == "EWR"].mean())
    assert measured["(missing)"].roc_auc is None, "one label only: there is no ranking"


def test_calibration_error_is_zero_for_the_truth_and_the_shift_for_a_shifted_answer() -> None:
    y = np.tile([True, False, False, False], 1_000)
    days = np.repeat(np.arange(10), 400)
    drawn = draw_days(days, seed=1)

    assert metrics.calibration_error(np.full(4_000, 0.25), y, drawn).value == pytest.approx(0, abs=1e-12)
    assert metrics.calibration_error(np.full(4_000, 0.45), y, drawn).value == pytest.approx(0.2)


def test_nothing_is_measured_without_evidence() -> None:
    p, y, days = a_month()
    unfit = {
        "no rows": (p[:0], y[:0], days[:0]),
        "different lengths": (p[:-1], y, days),
        "no probabilities": (np.where(p == p[0], np.nan, p), y, days),
        "some answers are no": (p + 1, y, days),
        "not bool": (p, y.astype(int), days),
        "alike": (p, np.ones_like(y), days),
        "one day": (p, y, np.zeros_like(days)),
        "have no day": (p, y, np.full(len(p), np.datetime64("NaT"))),
    }
    for why, (answers, labels, of_day) in unfit.items():
        with pytest.raises(EvidenceMissing, match=why):
            evaluate(answers, labels, of_day, {}, seed=1)


def test_a_feature_kind_is_all_that_decides_how_it_is_read() -> None:
    """Numbers in front of categories or behind them: the export follows the recipe's order, not the pipeline's."""
    rows = some_rows()
    turned = tuple(reversed(FEATURES))
    model = fit(a_recipe(features=turned), rows)

    assert [feature.kind for feature in model.forest().features] == [Kind.CATEGORY, Kind.NUMBER, Kind.CATEGORY, Kind.NUMBER]
    assert check_parity(model, Scorer.from_bytes(export(model)), rows.features).max_difference <= 1e-9
    assert isinstance(turned[0], Feature)
