"""Checks from outside: what waits to be shipped, and whether each answer is in log or table."""

import shutil
import subprocess
import sys
from datetime import timedelta

import pytest

from mlops_lab.cli import checks
from mlops_lab.cli.checks import MIB, Health
from mlops_lab.data import frames
from mlops_lab.data.shipping import SET_ASIDE
from mlops_lab.pipelines import ship as pipeline
from mlops_lab.pipelines.backlog import Backlog, all_shipped, backlog
from mlops_lab.pipelines.log_check import find, joined
from mlops_lab.pipelines.ship import ship
from mlops_lab.serving.prediction_log import Position
from mlops_lab.serving.segments import log_id, segment_path
from mlops_lab.serving.shipped import shipped_to
from pipeline_builders import NOW, SmallLab
from shipping_builders import answers, expected, feedback, write, write_and_ship, write_mixed


def test_the_backlog_says_how_much_waits_and_since_when(lab: SmallLab) -> None:
    assert backlog(lab) == []
    folder = write(lab.home, answers(1), feedback(1))
    size = segment_path(folder, 1).stat().st_size

    (waiting,) = backlog(lab)
    assert (waiting.replica, waiting.unshipped_bytes, waiting.unshipped_since) == ("replica-1", size - 8, NOW)
    assert not all_shipped(lab)
    ship(lab)
    assert all_shipped(lab)
    (shipped,) = backlog(lab)
    assert (shipped.unshipped_bytes, shipped.unshipped_since, shipped.aside) == (0, None, 0)
    assert shipped.size_bytes == size + len(log_id(folder)) + 1
    assert shipped_to(folder) == Position(1, size)


def test_ids_are_joined_with_log_and_table(lab: SmallLab) -> None:
    """Shipped and kept is once; only in the log is once; two records, or two that differ, are twice; nowhere is missing."""
    write(lab.home, answers(1, 2))
    shutil.rmtree(write_and_ship(lab, answers(3), replica="replica-3").parent)
    write(lab.home, answers(4), answers(3, model_version=9), answers(5), {"kind": "weather", "number": 1})
    write(lab.home, answers(5), replica="replica-2")

    found = joined(lab, ["p1", "p2", "p3", "p4", "p5", "p6"])

    assert (found.once, found.missing, found.twice, found.unreadable_bytes) == (3, ("p6",), ("p3", "p5"), 0)
    assert not found.holds
    assert joined(lab, ["p1", "p2", "p4"]).holds
    assert {one.place for one in find(lab, "p3")} == {"log", "table"}
    ship(lab)
    assert joined(lab, ["p1", "p2", "p4"]).holds
    assert sorted(one.place for one in find(lab, "p4")) == ["log", "table"]


def test_an_answer_that_was_set_aside_is_not_missing(lab: SmallLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "kept_bytes", lambda lab: 0)
    write_mixed(lab, range(10))
    with pytest.MonkeyPatch.context() as older:
        older.setattr(frames, "KINDS", ("feedback",))
        ship(lab)
    assert lab.tables.version(SET_ASIDE) > 0
    assert joined(lab, expected(range(10)).predictions).holds
    ship(lab.again())
    assert joined(lab, expected(range(10)).predictions).holds


@pytest.mark.parametrize(
    ("waiting", "since", "aside", "health", "hint"),
    [
        (0, None, 0, Health.OK, ""),
        (10 * MIB, 20, 0, Health.OK, ""),
        (10 * MIB, 300, 0, Health.WARN, "starts the watcher"),
        (60 * MIB, 20, 0, Health.FAIL, "503"),
        (0, None, 2, Health.WARN, "lab history"),
    ],
)
def test_the_doctor_looks_at_what_is_not_shipped(waiting: int, since: int | None, aside: int, health: Health, hint: str) -> None:
    log = Backlog("replica-1", 80 * MIB, waiting, None if since is None else NOW - timedelta(seconds=since), aside)
    check = checks.shipping([log], NOW, 100 * MIB)

    assert (check.health, hint in check.next) == (health, True)
    assert "80.0 MiB" in check.found
    assert checks.shipping([], NOW, MIB).health is Health.OK


def test_a_backlog_is_read_without_the_frameworks_of_tables() -> None:
    """`lab status` answers at once."""
    code = "import sys, mlops_lab.pipelines.backlog; sys.exit(any(name in sys.modules for name in ('pandas', 'deltalake', 'sqlalchemy')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
