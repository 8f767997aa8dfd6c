"""The model as data answers as walking its trees would, one row or many."""

import math
import random
import subprocess
import sys
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forest_builders import THRESHOLDS, a_large_forest, a_random_forest, some_values
from mlops_lab.errors import FeaturesWrong
from mlops_lab.features.view import Kind, Value
from mlops_lab.scoring import Forest, Scorer, Split
from mlops_lab.training.rows import values_of
from model_builders import FEATURES, a_forest, some_rows


def walked(forest: Forest, row: Sequence[Value]) -> float:
    """The answer by walking each tree as scikit-learn does: the plain reading of the format."""
    log_odds = forest.baseline
    for tree in forest.trees:
        node = tree[0]
        while isinstance(node, Split):
            value, name = row[node.feature], forest.features[node.feature].name
            if node.codes_left is not None:
                code = forest.categories[name].get(value) if isinstance(value, str) else None
                left = node.missing_left if code is None else code in node.codes_left
            elif value is None or math.isnan(float(value)):
                left = node.missing_left
            else:
                left = node.threshold is None or float(value) <= node.threshold
            node = tree[node.left if left else node.right]
        log_odds += node
    return 1 / (1 + math.exp(-log_odds))


def a_random_row(forest: Forest, rng: random.Random) -> list[Value]:
    numbers = [None, math.nan, math.inf, -math.inf, 0.0, *THRESHOLDS, *(math.nextafter(t, math.inf) for t in THRESHOLDS)]
    names = [None, "c0", "c1", "c5", "c79", "never seen", ""]
    return [rng.choice(numbers if f.kind is Kind.NUMBER else names) for f in forest.features]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**9))
def test_every_forest_answers_as_walking_its_trees(seed: int) -> None:
    """Missing, infinite and unknown values, thresholds met exactly and just passed, trees of a single leaf: one row, and in a batch."""
    forest, rng = a_random_forest(seed), random.Random(seed)
    scorer = Scorer.from_bytes(forest.to_bytes())
    rows = [a_random_row(forest, rng) for _ in range(50)]

    expected = [walked(forest, row) for row in rows]

    assert [scorer.score_one(row) for row in rows] == pytest.approx(expected, abs=1e-12)
    assert scorer.score(scorer.encode(rows)).tolist() == pytest.approx(expected, abs=1e-12)


def test_a_batch_of_any_size_answers_row_by_row() -> None:
    """No row knows of its neighbours, whatever the size of the chunks inside; no rows give no answers."""
    scorer = Scorer.from_bytes(a_forest().to_bytes())
    rng = random.Random(3)
    rows = [[rng.uniform(0, 24), rng.choice(["EWR", "LGA", None, "XXX"]), rng.choice([None, 3.0]), "D01"] for _ in range(700)]

    assert scorer.score(scorer.encode(rows)).tolist() == pytest.approx([scorer.score_one(row) for row in rows], abs=1e-15)
    assert scorer.score(scorer.encode([])).shape == (0,)


def in_groups(rows: list[list[Value]], rng: random.Random) -> list[list[list[Value]]]:
    groups, start = [], 0
    while start < len(rows):
        size = rng.choice((1, 1, 2, 3, 7, 8, 16, 64))
        groups.append(rows[start : start + size])
        start += size
    return groups


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**9))
def test_rows_score_the_same_to_the_bit_however_they_are_grouped(seed: int) -> None:
    """The service scores together what happens to arrive together; an answer must not depend on its neighbours, not in the last bit.

    Sums of many leaves are where it could: numpy adds up to 128 numbers in one way and more in another.
    """
    rng = random.Random(seed)
    forest = a_random_forest(seed)
    forest = replace(forest, trees=tuple(rng.choices(forest.trees, k=rng.choice((1, 2, 7, 9, 127, 128, 129, 150, 257, 1_000)))))
    scorer = Scorer.from_bytes(forest.to_bytes())
    rows = [a_random_row(forest, rng) for _ in range(150)]

    alone = [scorer.score_one(row) for row in rows]

    assert [answer for group in in_groups(rows, rng) for answer in scorer.score_rows(group)] == alone
    assert scorer.score_rows(rows) == alone
    assert scorer.score_rows([]) == []


def test_rows_scored_together_never_gather_more_than_a_few_megabytes() -> None:
    """A thousand rows of the widest forest are scored in slices: what is gathered for each is bounded, whatever the model."""
    forest = a_large_forest(trees=600)
    scorer = Scorer.from_bytes(forest.to_bytes())
    rows = some_values(forest, 1_000)
    tracemalloc.start()
    try:
        answers = scorer.score_rows(rows)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert answers[:50] == [scorer.score_one(row) for row in rows[:50]]
    assert peak < 8_000_000


def test_a_table_by_columns_is_the_same_rows() -> None:
    """Whole tables are encoded by column: gaps, unknown categories and numbers mean what they mean row by row."""
    scorer = Scorer.from_bytes(a_forest().to_bytes())
    frame = some_rows(500).features
    frame.loc[:20, "origin"] = "nowhere"
    columns = [frame[feature.name].to_numpy() for feature in scorer.features]

    by_column = scorer.encode_columns(columns)

    assert np.array_equal(by_column, scorer.encode(values_of(frame, scorer.features)), equal_nan=True)
    with pytest.raises(FeaturesWrong):
        scorer.encode_columns(columns[1:])
    with pytest.raises(FeaturesWrong, match="hour"):
        scorer.encode_columns([columns[0].astype(str), *columns[1:]])


def test_a_category_may_hold_anything_but_a_number_may_not_hold_text() -> None:
    scorer = Scorer.from_bytes(a_forest().to_bytes())

    assert scorer.score_one([9.0, 5.0, 3.0, None]) == scorer.score_one([9, "never seen", 3, math.nan])
    for answer in (scorer.score_one, lambda row: scorer.encode([row]), lambda row: scorer.score_rows([row, row])):
        with pytest.raises(FeaturesWrong, match="'hour' is a number, and 'nine' is not"):
            answer(["nine", "EWR", 3.0, "D01"])
        with pytest.raises(FeaturesWrong, match="3 features, the model reads 4"):
            answer([9.0, "EWR", 3.0])
    with pytest.raises(FeaturesWrong):
        scorer.score(np.zeros((5, 3)))


def test_extreme_log_odds_are_probabilities_still() -> None:
    for leaf, expected in ((1e4, 1.0), (-1e4, 0.0)):
        scorer = Scorer.from_bytes(Forest(FEATURES, {"origin": {}, "destination": {}}, 0.0, ((leaf,),)).to_bytes())
        row: list[Value] = [1.0, None, None, None]
        assert scorer.score_one(row) == expected
        assert scorer.score_rows([row, row]) == [expected, expected]
        assert scorer.score(scorer.encode([row])).tolist() == [expected]


def test_scoring_loads_no_framework_of_training() -> None:
    """The serving process pays for numpy only; and what cannot be imported cannot run code from a model."""
    program = "import sys, mlops_lab.scoring, mlops_lab.registry.judge; print(' '.join(sys.modules))"

    loaded = set(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split())

    assert not loaded & {"pandas", "sklearn", "pyarrow", "mlflow", "deltalake", "scipy", "joblib"}
