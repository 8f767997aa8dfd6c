"""The model as data: it answers as walking its trees would, one row or many, and a file that is not exactly right is not loaded."""

import json
import math
import random
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forest_builders import a_large_forest, some_values
from mlops_lab.errors import FeaturesWrong, ScorerRefused, StoreUnreachable
from mlops_lab.features.view import Feature, Kind, Value
from mlops_lab.scoring import DirectoryStore, Forest, Scorer, Split, sha256
from mlops_lab.scoring.forest import canonical
from mlops_lab.training.rows import values_of
from model_builders import FEATURES, a_forest, some_rows

THRESHOLDS = (-1e300, -2.5, -0.0, 0.5, 1.0, 7.25, 1e300)


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


def a_random_forest(seed: int) -> Forest:
    rng = random.Random(seed)
    features = tuple(Feature(f"f{i}", rng.choice(list(Kind)), "", "") for i in range(rng.randint(1, 6)))
    names = {f.name: {f"c{i}": i // 2 for i in range(rng.choice((0, 2, 6, 80)))} for f in features if f.kind is Kind.CATEGORY}

    def a_tree() -> tuple[Split | float, ...]:
        leaves, plan = rng.randint(1, 32), []  # plan: nodes in depth-first order, with the leaves below each
        pending = [(leaves, None)]
        nodes: list[Any] = []
        while pending:
            below, parent = pending.pop()
            at = len(nodes)
            if parent is not None:
                nodes[parent[0]][parent[1]] = at
            if below == 1:
                nodes.append(rng.uniform(-1, 1))
                continue
            nodes.append({"left": 0, "right": 0})
            left = rng.randint(1, below - 1)
            pending += [(below - left, (at, "right")), (left, (at, "left"))]
        for node in nodes:
            if isinstance(node, float):
                plan.append(node)
                continue
            feature = rng.randrange(len(features))
            known = names.get(features[feature].name)
            codes = None if known is None else tuple(sorted(c for c in set(known.values()) if rng.random() < 0.5))
            threshold = None if codes is not None or rng.random() < 0.1 else rng.choice(THRESHOLDS)
            plan.append(Split(feature, threshold, codes, rng.random() < 0.5, node["left"], node["right"]))
        return tuple(plan)

    return Forest(features, names, rng.uniform(-2, 2), tuple(a_tree() for _ in range(rng.randint(1, 5))))


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


def test_one_forest_has_one_file() -> None:
    """Reading and writing again gives the same bytes, so the digest is the model's identity."""
    content = a_forest().to_bytes()

    scorer = Scorer.from_bytes(content)

    assert scorer.digest == sha256(content) == a_forest().digest()
    assert scorer.features == FEATURES


def changed(edit: Callable[[dict[str, Any]], object]) -> bytes:
    document = json.loads(a_forest().to_bytes())
    edit(document)
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def node(at: int, content: object) -> Callable[[dict[str, Any]], object]:
    return lambda document: document["trees"][0].__setitem__(at, content)


HOSTILE = {
    "empty": b"",
    "not JSON": b"import os",
    "a pickle": b"\x80\x04\x95.",
    "not UTF-8": b'{"format":"\xff"}',
    "a list": b"[]",
    "nesting without end": b"[" * 100_000,
    "a huge file": b" " * (16 * 1024 * 1024 + 1),
    "a whole number of 5,000 digits": b'{"format":' + b"9" * 5_000 + b"}",
    "spaces": a_forest().to_bytes() + b" ",
    "a key twice": a_forest().to_bytes().replace(b'{"baseline":-1.0', b'{"baseline":2.0,"baseline":-1.0'),
    "another key": changed(lambda d: d.update(code="x")),
    "a key missing": changed(lambda d: d.pop("baseline")),
    "another format": changed(lambda d: d.update(format="mlops-lab-scorer/2")),
    "a baseline that is NaN": a_forest().to_bytes().replace(b'"baseline":-1.0', b'"baseline":NaN'),
    "a baseline out of range": a_forest().to_bytes().replace(b'"baseline":-1.0', b'"baseline":1e400'),
    "a baseline that is text": changed(lambda d: d.update(baseline="0")),
    "a baseline that is true": changed(lambda d: d.update(baseline=True)),
    "no trees": changed(lambda d: d.update(trees=[])),
    "too many trees": changed(lambda d: d.update(trees=[[0.5]] * 2_001)),
    "a tree without nodes": changed(lambda d: d.update(trees=[[]])),
    "too many nodes": changed(lambda d: d.update(trees=[[0.5] * 64])),
    "no features": changed(lambda d: d.update(features=[], categories={})),
    "a feature twice": changed(lambda d: d["features"].__setitem__(2, d["features"][0])),
    "a feature of no known kind": changed(lambda d: d["features"][0].update(kind="code")),
    "a feature with a long name": changed(lambda d: d["features"][0].update(name="x" * 500)),
    "a feature with another key": changed(lambda d: d["features"][0].update(call="os.system")),
    "categories of a number": changed(lambda d: d["categories"].update(hour={})),
    "a category code that is text": changed(lambda d: d["categories"]["origin"].update(EWR="0")),
    "a category code out of range": changed(lambda d: d["categories"]["origin"].update(EWR=256)),
    "a gap between category codes": changed(lambda d: d["categories"]["origin"].update(LGA=7)),
    "a feature index out of range": changed(node(0, [4, 12.5, 1, 1, 2])),
    "a negative feature index": changed(node(0, [-1, 12.5, 1, 1, 2])),
    "a child out of range": changed(node(0, [0, 12.5, 1, 1, 9])),
    "a cycle": changed(node(2, [1, [1], 0, 0, 4])),
    "a node of itself": changed(node(2, [1, [1], 0, 2, 4])),
    "a cycle that the root does not reach": changed(lambda d: d.update(trees=[[[0, 12.5, 1, 3, 4], [0, 1.0, 1, 1, 2], 0.5, 0.5, 0.5]])),
    "a shared child": changed(node(2, [1, [1], 0, 4, 4])),
    "a node that nobody reaches": changed(lambda d: d["trees"][0].append(0.5)),
    "a threshold that is text": changed(node(0, [0, "12", 1, 1, 2])),
    "a threshold that is whole": changed(node(0, [0, 12, 1, 1, 2])),
    "codes for a number": changed(node(0, [0, [1], 1, 1, 2])),
    "a threshold for a category": changed(node(2, [1, 1.5, 0, 3, 4])),
    "an unknown code": changed(node(2, [1, [3], 0, 3, 4])),
    "a code twice": changed(node(2, [1, [1, 1], 0, 3, 4])),
    "a direction that is neither 0 nor 1": changed(node(0, [0, 12.5, 2, 1, 2])),
    "a direction that is true": changed(node(0, [0, 12.5, True, 1, 2])),
    "a split of four entries": changed(node(0, [0, 12.5, 1, 1])),
    "a leaf that is whole": changed(node(1, 1)),
    "a leaf that is null": changed(node(1, None)),
    "a leaf out of range": changed(node(1, 1e5)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_with_a_reason(name: str) -> None:
    """A model file is untrusted input: whatever is in it, the answer is ScorerRefused and never another exception."""
    with pytest.raises(ScorerRefused) as refused:
        Scorer.from_bytes(HOSTILE[name])
    assert refused.value.next_step


def test_a_file_that_would_take_too_much_memory_is_refused() -> None:
    """Many small trees with different thresholds each would need a table of bins times trees."""
    tree = lambda t: tuple(Split(0, float(32 * t + i), None, True, 2 * i + 1, 2 * i + 2) if i < 31 else 0.5 for i in range(63))  # noqa: E731
    forest = Forest(FEATURES, {"origin": {}, "destination": {}}, 0.0, tuple(tree(t) for t in range(800)))

    with pytest.raises(ScorerRefused, match="mask cells"):
        Scorer.from_bytes(forest.to_bytes())


def longest_step_ms(content: bytes) -> float:
    """Processor time of this thread between two rests: so long the interpreter may be held, whatever else runs on the machine."""
    moments = [time.thread_time()]
    with suppress(ScorerRefused):
        Scorer.from_bytes(content, lambda: moments.append(time.thread_time()))
    return max(after - before for before, after in pairwise([*moments, time.thread_time()])) * 1000


def test_a_load_beside_requests_holds_the_interpreter_for_moments_only() -> None:
    """The size that is trained for flights is read in steps of some 2 ms; the worst head that is allowed (512 kB) in one of some 20 ms."""
    features = tuple(Feature(f"c{i}", Kind.CATEGORY, "", "") for i in range(256))
    worst = Forest(features, {f.name: {f"{name:x}": name % 256 for name in range(220)} for f in features}, 0.0, ((0.5,),)).to_bytes()

    assert min(longest_step_ms(a_large_forest().to_bytes()) for _ in range(3)) < 10
    assert 480_000 < len(worst) < 530_000
    assert min(longest_step_ms(worst) for _ in range(3)) < 100
    assert Scorer.from_bytes_gently(worst).digest == sha256(worst)


LARGE = {
    "lists": b"[" + b"[]," * 5_000_000 + b"0]",
    "an object": b"{" + b'"a":0,' * 2_000_000 + b'"b":0}',
    "a text": b'"' + b"x" * 16_000_000 + b'"',
}


@pytest.mark.parametrize("name", LARGE)
def test_a_large_file_that_is_no_model_is_refused_at_once(name: str) -> None:
    """Not a step of seconds, nor memory many times the file: what is not laid out like a model is not parsed at all."""
    tracemalloc.start()
    try:
        step = longest_step_ms(LARGE[name])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert step < 100
    assert peak < 4_000_000


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_file_with_a_changed_byte_is_refused_or_a_valid_model(data: st.DataObject) -> None:
    """No damage makes the reader fail in any other way, nor the model answer anything but a probability."""
    content = bytearray(a_forest().to_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        scorer = Scorer.from_bytes(bytes(content))
    except ScorerRefused:
        return
    assert 0 <= scorer.score_one([None] * len(scorer.features)) <= 1


def test_the_store_gives_back_what_was_put_and_knows_no_other_address(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "packages")
    scorer = a_forest().to_bytes()

    digest = store.put(scorer, b"manifest", b"signature")

    assert digest == sha256(scorer)
    assert tuple(store.get(digest)) == (scorer, b"manifest", b"signature")
    for address in ("0" * 64, "../../etc/passwd", digest.upper(), ""):
        with pytest.raises(StoreUnreachable):
            store.get(address)


def test_putting_again_changes_nothing_and_a_new_signature_replaces_the_old(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    digest = store.put(b"scorer", b"manifest", b"old")
    folder = (tmp_path / digest).stat().st_ino

    assert store.put(b"scorer", b"manifest", b"old") == digest
    assert (tmp_path / digest).stat().st_ino == folder
    assert store.put(b"scorer", b"manifest", b"new") == digest
    assert store.get(digest).signature == b"new"
    assert [path.name for path in tmp_path.iterdir()] == [digest], "nothing is left aside"


def test_a_damaged_package_is_repaired_by_publishing_again(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    digest = store.put(b"scorer", b"manifest", b"signature")
    (tmp_path / digest / "manifest.json").unlink()

    with pytest.raises(StoreUnreachable):
        store.get(digest)
    store.put(b"scorer", b"manifest", b"signature")

    assert store.get(digest).manifest == b"manifest"


def test_a_disk_that_does_not_take_it_is_said_with_the_place(tmp_path: Path) -> None:
    (tmp_path / "packages").write_text("a file where the folder should be")

    with pytest.raises(StoreUnreachable, match="packages"):
        DirectoryStore(tmp_path / "packages").put(b"scorer", b"manifest", b"signature")


def test_scoring_loads_no_framework_of_training() -> None:
    """The serving process pays for numpy only; and what cannot be imported cannot run code from a model."""
    program = "import sys, mlops_lab.scoring, mlops_lab.registry.judge; print(' '.join(sys.modules))"

    loaded = set(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split())

    assert not loaded & {"pandas", "sklearn", "pyarrow", "mlflow", "deltalake", "scipy", "joblib"}


def test_the_canonical_form_refuses_what_json_cannot_say() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical({"value": math.nan})
