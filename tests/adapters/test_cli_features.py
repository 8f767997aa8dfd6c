"""`lab features apply`, `services` and `history`, called as a person calls them, with Feast behind them."""

from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from pathlib import Path

import pytest
from pandas.testing import assert_frame_equal

import cli_builders
from cli_builders import Said
from mlops_lab.bootstrap import Lab
from mlops_lab.bootstrap.feature_store import feature_store
from mlops_lab.bootstrap.founding import found
from mlops_lab.bootstrap.identities import OPERATOR
from mlops_lab.data.batch_files import write_batch
from mlops_lab.features import Feature, Kind
from mlops_lab.features.on_feast_history import historical
from mlops_lab.flights.offline import history_features
from mlops_lab.flights.request import ask
from mlops_lab.flights.source import Year
from mlops_lab.flights.timeline import question
from mlops_lab.flights.transform import FEATURES
from mlops_lab.gates import PandasGate
from mlops_lab.monitoring.window import Window
from mlops_lab.pipelines.ingest import ingest
from mlops_lab.pipelines.orders import IngestBatch
from mlops_lab.registry.ledger import OVERRIDE
from mlops_lab.registry.version import ModelVersion, Role
from mlops_lab.scoring.forest import Forest
from mlops_lab.scoring.keys import signing_key
from mlops_lab.scoring.manifest import Manifest, sha256, sign
from mlops_lab.settings import FeatureSettings, Settings
from model_builders import a_forest

AT = datetime(2013, 4, 1, tzinfo=UTC)
BY_NAME = {feature.name: feature for feature in FEATURES}


class QuickLab(Lab):
    """A lab of flights whose gate is quick to import."""

    @cached_property
    def gate(self) -> PandasGate:
        return PandasGate()


@pytest.fixture
def lab(tmp_path: Path, flight_data: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    made = QuickLab(Settings(home=tmp_path, data=flight_data, features=FeatureSettings(store="sqlite")))
    found(made)
    monkeypatch.setattr("mlops_lab.bootstrap.Lab", lambda settings: made)
    return made


@pytest.fixture
def said(lab: Lab, capsys: pytest.CaptureFixture[str]) -> Said:
    return partial(cli_builders.said, capsys)


def registered(lab: Lab, number: int, *names: str) -> None:
    """Register a version whose signed package reads these features."""
    numbers = tuple(replace(feature, kind=Kind.NUMBER) for feature in map(BY_NAME.__getitem__, names))
    scorer = a_scorer(numbers).to_bytes()
    manifest = Manifest(lab.model, sha256(scorer), "d" * 64, "e" * 64)
    digest = lab.packages.put(scorer, manifest.to_bytes(), sign(manifest, signing_key(lab.keys)))
    lab.ledger.add_version(ModelVersion(lab.model, number, f"run-{number}", digest, "d" * 64, AT, AT, "trainer", "first"), "trainer")


def a_scorer(features: tuple[Feature, ...]) -> Forest:
    """One leaf; which features there are is all that matters here."""
    return replace(a_forest(), features=features, categories={}, trees=((0.5,),))


def test_each_registered_version_gets_its_service_and_the_list_says_what_serves(lab: Lab, said: Said) -> None:
    registered(lab, 1, "origin_delay_3h_min", "minute_of_day")
    registered(lab, 2, "aircraft_delay_min")
    lab.ledger.assign(Role.CHAMPION, 1, replacing=None, kind=OVERRIDE, by=OPERATOR, why="a test", at=AT)
    lab.ledger.assign(Role.CANARY, 2, replacing=None, kind=OVERRIDE, by=OPERATOR, why="a test", at=AT, weight=0.1)

    document = said("features", "apply")

    assert [(each["name"], each["features"], each["state"], each["roles"]) for each in document["services"]] == [
        ("flight-delay-v1", ["origin_delay_3h_min", "minute_of_day"], "serving", ["champion"]),
        ("flight-delay-v2", ["aircraft_delay_min"], "serving", ["canary 10%"]),
    ]
    assert document["without"] == []
    assert said("features", "services") == document
    registered(lab, 3, "aircraft_delay_min")
    assert said("features", "services") == document | {"without": [3]}


def test_a_package_that_is_not_what_was_signed_gets_no_service(lab: Lab, said: Said) -> None:
    registered(lab, 1, "minute_of_day")
    for path in lab.home.glob("packages/**/*"):
        if path.is_file() and "scorer" in path.name:
            path.chmod(0o644)
            path.write_bytes(path.read_bytes() + b" ")
    assert "not the one in its signed manifest" in said("features", "apply", code=30)["error"]["what"]
    assert said("features", "services")["services"] == []


def test_accepted_batches_become_the_history_of_rows(lab: Lab, said: Said, year: Year) -> None:
    week = Window.of_week("2013-W14")
    write_batch(year.batch(week), lab.home / "inbox")
    ingest(IngestBatch("ingest-1", week.end, OPERATOR, str(lab.home / "inbox"), week.id), lab)
    day = week.start + timedelta(days=3)

    states = said("features", "history", "--from", f"{day:%Y-%m-%d}", "--until", f"{day + timedelta(days=1):%Y-%m-%d}")["states"]

    assert states["origin_departures"] > 1000
    observed = year.weather["observed_at"]
    assert states["airport_weather"] == ((observed > day - timedelta(hours=36)) & (observed <= day + timedelta(days=1))).sum()
    noon = day + timedelta(hours=12)
    flights = year.flights[year.flights["scheduled_departure"].between(noon, noon + timedelta(hours=1))]
    asks = [ask({**question(flight), "scheduled_departure": flight.scheduled_departure.to_pydatetime()}) for flight in flights.itertuples()]
    with closing(feature_store(lab.settings)) as store:
        features = historical(store, asks)
    own = history_features(year.flights, year.weather, year.aircraft).loc[flights.index].reset_index(drop=True)
    assert len(own) > 20
    assert_frame_equal(features, own, check_exact=True)


def test_a_span_the_wrong_way_round_is_refused(said: Said) -> None:
    assert "before --until" in said("features", "history", "--from", "2013-04-02", "--until", "2013-04-01", code=2)["error"]["next"]
