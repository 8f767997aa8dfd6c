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
from mlops_lab.replay.journal import Journal
from mlops_lab.replay.session import JOURNAL
from parcel_builders import week
from pipeline_builders import SmallLab, copied, training_flow, turned_round


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> SmallLab:
    """A world that turned round, and a replay that has come to the end of its last week."""
    lab = turned_round(tmp_path_factory.mktemp("cli") / "home")
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
