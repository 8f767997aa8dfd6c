"""A version that answers alike and takes longer: for canaries that are too slow."""

import dataclasses
import random
import statistics
from collections.abc import Iterator, Sequence
from time import perf_counter

from mlops_lab.features import Value
from mlops_lab.scoring.forest import Forest, Tree
from mlops_lab.scoring.scorer import Scorer

SLOWNESS = 1.5


def slowed(forest: Forest, champion: Forest, seed: int) -> tuple[Forest, float]:
    """The same answers from so many more trees that scoring takes `SLOWNESS` times the champion's time on this machine.

    Returns:
        The forest, and the ratio measured.
    """
    rows = _any_rows(forest, seed)
    other = Scorer(champion, "champion")
    found, ratio = forest, 1.0
    for trees in range(300, 2_000, 50):
        idle = (tuple(0.0 if isinstance(node, float) else node for node in tree) for tree in _again(forest.trees))
        found = dataclasses.replace(forest, trees=forest.trees + tuple(next(idle) for _ in range(trees - len(forest.trees))))
        ratio = _ratio(Scorer(found, "slower"), other, rows)
        if ratio >= SLOWNESS:
            break
    return found, ratio


def _ratio(one: Scorer, other: Scorer, rows: Sequence[Sequence[Value]]) -> float:
    ratios = []
    for row in rows:
        began = perf_counter()
        one.score_one(row)
        middle = perf_counter()
        other.score_one(row)
        ratios.append((middle - began) / (perf_counter() - middle))
        began = perf_counter()
        other.score_one(row)
        middle = perf_counter()
        one.score_one(row)
        ratios.append((perf_counter() - middle) / (middle - began))
    return statistics.median(ratios)


def _any_rows(forest: Forest, seed: int) -> list[list[Value]]:
    chance = random.Random(seed)
    names = [list(forest.categories.get(feature.name, ())) for feature in forest.features]
    return [[chance.choice(known) if known else chance.uniform(0, 100) for known in names] for _ in range(300)]


def _again(trees: tuple[Tree, ...]) -> Iterator[Tree]:
    while True:
        yield from trees
