"""A home whose replicas have nothing logged yet."""

from pathlib import Path

import pytest

from mlops_lab.bootstrap.founding import found
from mlops_lab.pipelines import ship as pipeline
from pipeline_builders import SmallLab


@pytest.fixture
def lab(tmp_path: Path) -> SmallLab:
    lab = SmallLab(tmp_path / "home")
    found(lab)
    return lab


@pytest.fixture
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "kept_bytes", lambda lab: 0)
