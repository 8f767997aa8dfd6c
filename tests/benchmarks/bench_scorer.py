"""How long the scorer takes for one row, for 64 and for many, on a forest of the size that is trained for flights.

Run `python tests/benchmarks/bench_scorer.py`; the figures are printed as one line of JSON, in microseconds, best of five rounds.
The forest is made up (150 trees of 31 leaves over 20 features), so it needs no data; a scikit-learn pipeline is no part of it.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # the builders of the tests

from forest_builders import a_large_forest, some_values
from mlops_lab.scoring import Scorer

BUDGET_US = 60.0
"""For one row, in process."""

SIZES = (1, 2, 4, 8, 16, 64)
"""Rows scored together, as they arrive together."""


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
        **{f"{n}_rows_us_per_row": best_us(lambda n=n: scorer.score_rows(rows[:n]), repeat=max(2_000 // n, 20)) / n for n in SIZES},  # type: ignore[misc]
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
