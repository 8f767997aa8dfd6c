"""The summary on disk is held against one made again from the stores: it must say the same, or be the beginning of what they say now."""

import json
from pathlib import Path
from typing import Any

import pytest

from mlops_lab.demo.summary import compare


def a_summary(weeks: int = 2, **changes: Any) -> dict[str, Any]:
    decisions = [{"window": f"2013-W{14 + i}", "outcome": "watch"} for i in range(weeks)]
    return {"decisions": decisions, "assignments": [{"id": 1}], "refused": [], "predictions": 6_000 * weeks, **changes}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "summary.json"
    path.write_text(json.dumps(a_summary()), encoding="utf-8")
    return path


def test_the_same_again_is_no_difference(path: Path) -> None:
    assert compare(path, a_summary()) == []


def test_every_figure_that_differs_is_named(path: Path) -> None:
    assert compare(path, a_summary(predictions=11_999)) == ["'predictions' is not what the stores say"]


def test_a_home_that_went_on_keeps_what_was_recorded_before(path: Path) -> None:
    assert compare(path, a_summary(weeks=5, assignments=[{"id": 1}, {"id": 2}])) == []


def test_what_was_recorded_before_cannot_be_changed_by_going_on(path: Path) -> None:
    later = a_summary(weeks=5, assignments=[{"id": 7}])
    later["decisions"][0]["outcome"] = "ok"

    assert compare(path, later) == [
        "'decisions' does not begin with what the demo recorded",
        "'assignments' does not begin with what the demo recorded",
    ]


def test_a_summary_that_is_missing_or_unreadable_is_a_difference(path: Path) -> None:
    path.write_text("{", encoding="utf-8")
    assert compare(path, a_summary()) == ["summary.json is not JSON"]
    path.unlink()
    assert compare(path, a_summary()) == ["summary.json is missing"]
