"""Facts of two days of April, and a bus for them."""

from pathlib import Path

import pytest

from mlops_lab.events import Message
from mlops_lab.events.on_sqlite import SqliteBus
from mlops_lab.flights.source import Year
from stream_builders import aircraft_of, facts_of


@pytest.fixture(scope="session")
def facts(year: Year) -> list[Message]:
    """Two days of April, in order."""
    return facts_of(year, days=2)


@pytest.fixture(scope="session")
def aircraft(year: Year) -> list[Message]:
    return aircraft_of(year)


@pytest.fixture
def bus(tmp_path: Path) -> SqliteBus:
    return SqliteBus(tmp_path / "bus.db")
