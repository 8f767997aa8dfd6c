"""A driver of the test's own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from replay_builders import Stage


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    yield made
    made.journal.close()
    made.bus.close()
