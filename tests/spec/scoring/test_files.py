"""A model's file: one for each forest, and one that is not exactly right is not loaded, whatever its size."""

import json
import math
import time
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forest_builders import a_large_forest
from mlops_lab.errors import ScorerRefused
from mlops_lab.features.view import Feature, Kind
from mlops_lab.scoring import Forest, Scorer, Split, sha256
from mlops_lab.scoring.forest import canonical
from model_builders import FEATURES, a_forest


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


def test_the_canonical_form_refuses_what_json_cannot_say() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical({"value": math.nan})
