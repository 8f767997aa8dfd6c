"""What the scorer takes for one row, in process, on the features of real flights.

As a program: `python -m benchmarks.serving.scorer SCORER ROWS ROUNDS` prints one line of JSON.
"""

import json
import sys
import time
from pathlib import Path

from mlops_lab.scoring.scorer import Scorer

TIMES = 4
"""Over all rows, per round."""


def main() -> int:
    """Measure and print: microseconds per row, a mean per round."""
    scorer = Scorer.from_bytes(Path(sys.argv[1]).read_bytes())
    rows = json.loads(Path(sys.argv[2]).read_text()) * TIMES
    means = []
    for _ in range(int(sys.argv[3]) + 1):
        began = time.perf_counter()
        for row in rows:
            scorer.score_one(row)
        means.append((time.perf_counter() - began) / len(rows) * 1e6)
    print(json.dumps(means[1:]))  # the first one warmed up
    return 0


if __name__ == "__main__":
    sys.exit(main())
