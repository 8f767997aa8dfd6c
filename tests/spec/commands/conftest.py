"""A small home with four weeks of production, on which every command here is called as a person calls it."""

import os
import sys
import types
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

import cli_builders
from cli_builders import Said
from mlops_lab.pipelines.ship import ship
from mlops_lab.replay.journal import Journal
from mlops_lab.replay.session import JOURNAL
from parcel_builders import week
from pipeline_builders import SmallLab, a_training, copied, established, serve, training_flow


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> SmallLab:
    """Six weeks of history and a champion; then the world turned round, and four weeks of answers are closed and not decided.
    Somebody trained version 2, which the judge was for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mlops_lab.pipelines.train.MIN_ROWS", 500)
        lab = established(tmp_path_factory.mktemp("cli") / "home")
        for number in range(7, 11):
            serve(lab, week(number), turned=True)
        ship(lab)
        judgement, _ = training_flow(a_training(week(10).closes_at, "turned"), lab)
    assert judgement.outcome == "promote", judgement.because
    journal = Journal(lab.home / JOURNAL)
    journal.flush(cursor=week(10).closes_at)
    journal.close()
    return lab


@pytest.fixture
def lab(template: SmallLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallLab]:
    """A home of this test's own, which is the one that every command opens; what a command sets in the environment is taken back."""
    made = copied(template, tmp_path / "home")
    before = dict(os.environ)
    monkeypatch.setattr("mlops_lab.bootstrap.Lab", lambda settings: made)
    monkeypatch.setattr("mlops_lab.pipelines.train.MIN_ROWS", 500)
    flow = types.ModuleType("mlops_lab.pipelines.on_prefect")
    flow.__dict__["run_training_flow"] = training_flow
    monkeypatch.setitem(sys.modules, flow.__name__, flow)
    yield made
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def said(lab: SmallLab, capsys: pytest.CaptureFixture[str]) -> Said:
    return partial(cli_builders.said, capsys)
