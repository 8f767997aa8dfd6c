"""A home where nothing was reported yet."""

from pathlib import Path

import pytest

from mlops_lab.bootstrap.founding import found
from pipeline_builders import SmallLab


@pytest.fixture
def lab(tmp_path: Path) -> SmallLab:
    lab = SmallLab(tmp_path / "home")
    found(lab)
    return lab
