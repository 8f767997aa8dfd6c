"""Homes that deal with parcels, in small numbers: a new one, and one whose first version serves."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops_lab.bootstrap.founding import found
from pipeline_builders import SmallLab, copied, established, small_numbers


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    with small_numbers():
        yield


@pytest.fixture(scope="session")
def first_home(tmp_path_factory: pytest.TempPathFactory) -> SmallLab:
    """Six weeks of history, version 1 is champion. Copied for each test."""
    with small_numbers():
        return established(tmp_path_factory.mktemp("established") / "home")


@pytest.fixture
def lab(first_home: SmallLab, tmp_path: Path) -> SmallLab:
    return copied(first_home, tmp_path / "home")


@pytest.fixture
def empty(tmp_path: Path) -> SmallLab:
    """A new home."""
    lab = SmallLab(tmp_path / "new")
    found(lab)
    return lab
