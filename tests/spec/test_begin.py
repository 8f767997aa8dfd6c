"""From an empty home to a model that serves: once, with progress, and killed anywhere it goes on behind what was done."""

import dataclasses
import json
import os
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlops_lab.cli.main import run
from mlops_lab.monitoring.window import Window
from mlops_lab.pipelines.ingest import ingest
from mlops_lab.registry.version import Role
from parcel_builders import week
from pipeline_builders import SmallLab, deliver, training_flow

WEEKS = [week(number) for number in range(1, 7)]


class Beginning:
    """A home of parcels in the place of the flights', and a step at which the process dies."""

    def __init__(self, lab: SmallLab) -> None:
        self.lab = lab
        self.dies_at = ""
        self.trained = 0

    def passed(self, step: str) -> None:
        if step == self.dies_at:
            raise KeyboardInterrupt

    def take(self, lab: SmallLab, window: Window) -> dict[str, Any]:
        self.passed(window.id)
        before = len(lab.snapshots.all())
        ingest(deliver(lab, window), lab)
        return {"new": len(lab.snapshots.all()) > before}

    def train(self, order: Any, lab: SmallLab) -> Any:
        self.passed("training")
        found = training_flow(order, lab)
        self.trained += 1
        self.passed("trained")
        return found


@pytest.fixture
def beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Beginning]:
    made = Beginning(SmallLab(tmp_path / "home"))
    before = dict(os.environ)
    monkeypatch.setattr("mlops_lab.bootstrap.Lab", lambda settings: made.lab)
    monkeypatch.setattr("mlops_lab.pipelines.train.MIN_ROWS", 500)
    monkeypatch.setattr("mlops_lab.cli.begin.MONTHS", ("history",))
    monkeypatch.setattr("mlops_lab.flights.source.weeks_of_month", lambda month: WEEKS)
    monkeypatch.setattr("mlops_lab.cli.begin.take", made.take)
    flow = types.ModuleType("mlops_lab.pipelines.on_prefect")
    flow.__dict__["run_training_flow"] = made.train
    monkeypatch.setitem(sys.modules, flow.__name__, flow)
    yield made
    os.environ.clear()
    os.environ.update(before)


def test_an_empty_home_ends_with_a_champion_whom_somebody_else_approved(beginning: Beginning, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["begin"]) == 0

    lab, said = beginning.lab, capsys.readouterr().out
    champion = lab.ledger.champion()
    assert (champion.version, champion.kind, champion.by) == (1, "promotion", "approver")
    assert lab.ledger.version(1).registered_by == "trainer"
    assert [snapshot.batch for snapshot in lab.snapshots.all()] == [window.id for window in WEEKS]
    assert "[6/6] 2013-W06 accepted" in said
    assert "Version 1 takes the traffic as the first champion" in said


def test_twice_changes_nothing(beginning: Beginning, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["begin"]) == 0
    entries = len(beginning.lab.trail.entries())
    capsys.readouterr()

    assert run(["begin", "--json"]) == 0

    found = json.loads(capsys.readouterr().out)
    assert (found["version"], found["new"]) == (1, False)
    assert (len(beginning.lab.trail.entries()), beginning.trained) == (entries, 1)


@pytest.mark.parametrize("step", ["2013-W04", "training", "trained", "approve", "promote"])
def test_killed_in_the_middle_and_again_it_completes(step: str, beginning: Beginning, monkeypatch: pytest.MonkeyPatch) -> None:
    beginning.dies_at = step
    with monkeypatch.context() as patch:
        for name in ("approve", "assign"):
            before = getattr(beginning.lab.ledger, name)
            at = "promote" if name == "assign" else name
            patch.setattr(beginning.lab.ledger, name, lambda *a, _do=before, _at=at, **k: (beginning.passed(_at), _do(*a, **k))[1])
        assert run(["begin"]) == 130
    assert beginning.lab.ledger.current(Role.CHAMPION) is None
    beginning.dies_at, beginning.lab = "", beginning.lab.again()

    assert run(["begin"]) == 0

    lab = beginning.lab
    assert lab.ledger.champion().version == 1
    assert [version.number for version in lab.ledger.versions()] == [1]
    assert len(lab.snapshots.all()) == len(WEEKS)
    assert beginning.trained == 1


def test_a_first_model_that_the_judge_is_not_for_is_not_promoted(
    beginning: Beginning, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    too_slow = dataclasses.replace(beginning.lab.limits, latency_us=1e-6)
    monkeypatch.setitem(vars(beginning.lab), "limits", too_slow)

    assert run(["begin"]) == 30

    assert "`lab judge 1`" in capsys.readouterr().err
    assert beginning.lab.ledger.current(Role.CHAMPION) is None


def test_two_do_not_begin_at_once(beginning: Beginning, capsys: pytest.CaptureFixture[str]) -> None:
    codes: list[int] = []

    def take(lab: SmallLab, window: Window) -> dict[str, Any]:
        codes.append(run(["begin"]))
        return beginning.take(lab, window)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mlops_lab.cli.begin.take", take)
        assert run(["begin"]) == 0

    assert set(codes) == {2}
    assert "Another process begins" in capsys.readouterr().err
