"""The committed result of `make parity` is one of full size, and holds."""

import json
from pathlib import Path

RESULT = Path(__file__).parents[1] / "benchmarks" / "results" / "parity.json"


def test_the_committed_proof_is_of_full_size_and_holds() -> None:
    in_order, in_disorder, behind = runs = json.loads(RESULT.read_text(encoding="utf-8"))["runs"]

    assert all(run["flights"] >= 20_000 and run["holds"] and run["unexplained"] == [] for run in runs)
    assert in_order["differing"] == in_disorder["differing"] == 0
    assert in_disorder["twice"] > 0.08 * in_disorder["published"]
    assert 0 < behind["differing"] == behind["explained"] <= 0.001 * behind["flights"]


def test_the_page_says_the_same() -> None:
    page = RESULT.with_suffix(".md").read_text(encoding="utf-8")
    for run in json.loads(RESULT.read_text(encoding="utf-8"))["runs"]:
        assert f"| {run['name']} | {run['flights']:,} | {run['values']:,} | {run['published']:,} |" in page
