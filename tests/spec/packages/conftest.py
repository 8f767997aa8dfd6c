"""Every test here cleans up behind packages that nest too deep."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def nothing_deep_is_left(tmp_path: Path) -> Iterator[None]:
    """A nest that is deeper than Python's stack would make pytest stumble when it tidies up, in this run or the next."""
    yield
    subprocess.run(["rm", "-rf", *tmp_path.iterdir()], check=True)
