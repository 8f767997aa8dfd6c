"""Where a replica has its features from: what the home has recorded, or the settings say; and what its process must not load for it."""

import subprocess
import sys
from pathlib import Path

import pytest

from mlops_lab.bootstrap.chosen import Chosen, record
from mlops_lab.bootstrap.serve import source_of
from mlops_lab.clock import WallClock
from mlops_lab.errors import SettingsWrong
from mlops_lab.flights.online_usecase import FlightsOnline
from mlops_lab.serving.facts import FactStream
from mlops_lab.serving.source import FeatureSource
from mlops_lab.serving.stored import StoredFeatures
from mlops_lab.settings import FeatureSettings, Settings

HEAVY = ("confluent_kafka", "deltalake", "duckdb", "feast", "mlflow", "pandas", "prefect", "pyarrow", "redis", "sklearn")


def source(home: Path, **features: object) -> FeatureSource:
    settings = Settings(home=home, features=FeatureSettings(**features))  # type: ignore[arg-type]
    return source_of(settings, FlightsOnline(), WallClock())


def test_a_home_that_has_recorded_nothing_reads_the_bus_itself(tmp_path: Path) -> None:
    assert isinstance(source(tmp_path), FactStream)


@pytest.mark.parametrize("store", ["sqlite", "redis"])
def test_a_home_with_an_online_store_reads_that(tmp_path: Path, store: str) -> None:
    record(tmp_path, Chosen("embedded", store))  # type: ignore[arg-type]
    assert isinstance(source(tmp_path, redis="redis://127.0.0.1:1/0"), StoredFeatures)


def test_the_address_is_shown_without_its_password(tmp_path: Path) -> None:
    said = source(tmp_path, store="redis", redis="redis://somebody:secret@127.0.0.1:1/3").dependency()
    assert said.facts["store"] == "redis://127.0.0.1:1/3"


@pytest.mark.parametrize("url", ["127.0.0.1:6379", "redis://", "http://127.0.0.1", "redis://127.0.0.1:x", "redis://u:hidden@h/x"])
def test_what_is_no_address_is_said_without_its_password(tmp_path: Path, url: str) -> None:
    with pytest.raises(SettingsWrong, match="LAB_FEATURES__REDIS") as raised:
        source(tmp_path, store="redis", redis=url)
    assert "hidden" not in str(raised.value)


@pytest.mark.parametrize("store", ["process", "sqlite", "redis"])
def test_the_serving_process_loads_no_framework(tmp_path: Path, store: str) -> None:
    """Feast alone takes eight seconds and 180 MB."""
    program = (
        "import sys; from mlops_lab.bootstrap.serve import source_of; from mlops_lab.settings import load_settings\n"
        "from mlops_lab.clock import WallClock; from mlops_lab.flights.online_usecase import FlightsOnline\n"
        "source_of(load_settings(), FlightsOnline(), WallClock()).catch_up(); print(' '.join(sys.modules))"
    )
    where = {"LAB_HOME": str(tmp_path), "LAB_FEATURES__STORE": store, "LAB_FEATURES__REDIS": "redis://127.0.0.1:1/0"}
    done = subprocess.run([sys.executable, "-c", program], env=where | {"PYTHONPATH": ":".join(sys.path)}, capture_output=True, text=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert done.returncode == 0, done.stderr
    assert "mlops_lab" in loaded
    assert loaded.isdisjoint(HEAVY)
