"""How long the scorer takes for one row, for 64 and for many, on a forest of the size that is trained for flights.

Run `python tests/benchmarks/bench_scorer.py`; the figures are printed as one line of JSON, in microseconds, best of five rounds.
The forest is made up (150 trees of 31 leaves over 20 features), so it needs no data; a scikit-learn pipeline is no part of it.
"""

import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mlops_lab.features.view import Feature, Kind, Value
from mlops_lab.scoring import Forest, Scorer, Split

BUDGET_US = 60.0
"""For one row, in process."""


def a_large_forest(trees: int = 150, leaves: int = 31, seed: int = 7) -> Forest:
    """Sixteen numbers with up to 255 thresholds each, and categories of 3, 16, 40 and 105 names."""
    rng = random.Random(seed)
    sizes = {"origin": 3, "carrier": 16, "tail_maker": 40, "destination": 105}
    features = tuple(Feature(f"number_{i}", Kind.NUMBER, "", "") for i in range(16)) + tuple(
        Feature(n, Kind.CATEGORY, "", "") for n in sizes
    )
    names = {name: {f"{name}-{i}": i for i in range(size)} for name, size in sizes.items()}
    thresholds = [sorted(rng.uniform(0, 100) for _ in range(255)) for _ in range(16)]

    def a_tree() -> tuple[Split | float, ...]:
        nodes: list[Split | float] = []
        for i in range(leaves - 1):  # heap order: a child comes after its parent
            feature = rng.randrange(len(features))
            known = names.get(features[feature].name)
            codes = None if known is None else tuple(sorted(rng.sample(range(len(known)), len(known) // 2)))
            threshold = rng.choice(thresholds[feature]) if known is None else None
            nodes.append(Split(feature, threshold, codes, rng.random() < 0.5, 2 * i + 1, 2 * i + 2))
        return (*nodes, *(rng.uniform(-0.1, 0.1) for _ in range(leaves)))

    return Forest(features, names, -1.0, tuple(a_tree() for _ in range(trees)))


def some_values(forest: Forest, count: int, seed: int = 1) -> list[list[Value]]:
    """Rows with a tenth of the values missing."""
    rng = random.Random(seed)

    def value(feature: Feature) -> Value:
        if rng.random() < 0.1:
            return None
        return rng.uniform(0, 100) if feature.kind is Kind.NUMBER else rng.choice(list(forest.categories[feature.name]))

    return [[value(feature) for feature in forest.features] for _ in range(count)]


def best_us(work: Callable[[], object], repeat: int) -> float:
    """Microseconds per call: the best of five rounds, since a shared machine only ever adds."""
    rounds = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(repeat):
            work()
        rounds.append((time.perf_counter() - start) / repeat * 1e6)
    return min(rounds)


def main() -> int:
    """Measure and print; 1 if one row takes longer than the budget."""
    forest = a_large_forest()
    content = forest.to_bytes()
    scorer = Scorer.from_bytes(content)
    rows = some_values(forest, 10_000)
    turn = iter(rows * 2)
    encoded = scorer.encode(rows)
    figures = {
        "one_row_us": best_us(lambda: scorer.score_one(next(turn)), repeat=2_000),
        "batch_of_64_us": best_us(lambda: scorer.score(scorer.encode(rows[:64])), repeat=50),
        "many_us_per_row": best_us(lambda: scorer.score(encoded), repeat=3) / len(rows),
        "load_us": best_us(lambda: Scorer.from_bytes(content), repeat=1),
        "file_bytes": float(len(content)),
    }
    assert np.isfinite(scorer.score(encoded)).all()
    print(json.dumps({name: round(value, 1) for name, value in figures.items()}))
    print(
        f"{Path(sys.executable).name} {sys.version.split()[0]}, numpy {np.__version__}; budget for one row {BUDGET_US:g} µs",
        file=sys.stderr,
    )
    return int(figures["one_row_us"] > BUDGET_US)


if __name__ == "__main__":
    sys.exit(main())
