"""Facts that are followed on a bus."""

from pathlib import Path

import pytest

from facts_builders import Followed


@pytest.fixture
def followed(tmp_path: Path) -> Followed:
    made = Followed(tmp_path / "bus.db")
    made.publish(1)
    made.facts.catch_up()
    assert made.people() == 1
    return made
