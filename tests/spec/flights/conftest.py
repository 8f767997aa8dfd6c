"""The weeks of the real year, and its features as either engine reads them."""

import pytest

from flight_builders import NAMES, Read, answers_offline, answers_online, online
from mlops_lab.data.snapshot import Batch
from mlops_lab.features import Value
from mlops_lab.flights.source import FIRST_WEEK, LAST_WEEK, Year, weeks


@pytest.fixture(scope="session")
def batches(year: Year) -> list[Batch]:
    return [year.batch(week) for week in weeks(FIRST_WEEK, LAST_WEEK)]


@pytest.fixture(params=["tables", "events"])
def read(request: pytest.FixtureRequest) -> Read:
    """The features of one flight of a year, by name, from either engine."""

    def read_tables(year: Year, name: str) -> dict[str, Value]:
        return dict(zip(NAMES, answers_offline(year, [name])[name], strict=True))

    def read_events(year: Year, name: str) -> dict[str, Value]:
        return dict(zip(NAMES, answers_online(online(year), year, [name])[name], strict=True))

    return read_tables if request.param == "tables" else read_events
