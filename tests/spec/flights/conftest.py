"""The weeks of the real year."""

import pytest

from mlops_lab.data.snapshot import Batch
from mlops_lab.flights.source import FIRST_WEEK, LAST_WEEK, Year, weeks


@pytest.fixture(scope="session")
def batches(year: Year) -> list[Batch]:
    return [year.batch(week) for week in weeks(FIRST_WEEK, LAST_WEEK)]
