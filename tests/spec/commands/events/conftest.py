"""A home of flights with a bus, on which `lab events` is called as a person calls it."""

import os
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

import cli_builders
from cli_builders import Said, Told
from mlops_lab.bootstrap import Lab
from mlops_lab.bootstrap.founding import found
from mlops_lab.settings import Settings


@pytest.fixture(scope="session")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("founded") / "home"
    found(Lab(Settings(home=home)))
    return home


@pytest.fixture
def lab(founded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """A home in which nothing has happened, which is the one that every command opens."""
    subprocess.run(["cp", "-r", founded, tmp_path / "home"], check=True)
    before = dict(os.environ)
    os.environ["LAB_HOME"] = str(tmp_path / "home")
    yield Lab(Settings(home=tmp_path / "home"))
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def told(lab: Lab, capsys: pytest.CaptureFixture[str]) -> Told:
    return partial(cli_builders.told, capsys, "events")


@pytest.fixture
def said(lab: Lab, capsys: pytest.CaptureFixture[str]) -> Said:
    return partial(cli_builders.said, capsys, "events")
