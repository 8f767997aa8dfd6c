"""The processor as a process of its own: it works until told to stop, waits for what does not answer, and says how it fares."""

import json
import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from mlops_lab.bootstrap.chosen import Chosen, record
from mlops_lab.bootstrap.services import FEATURES, service_specs
from mlops_lab.cli.main import run
from mlops_lab.clock import WallClock
from mlops_lab.errors import FeatureStoreUnreachable
from mlops_lab.events import OBSERVATIONS, Message
from mlops_lab.events.on_sqlite import SqliteBus
from mlops_lab.events.schema import EventTypes
from mlops_lab.features.in_memory import MemoryRows
from mlops_lab.features.processor import Processor
from mlops_lab.features.rows import Progress, RowRef
from mlops_lab.flights.online_usecase import FlightsOnline
from mlops_lab.flights.source import Year
from mlops_lab.pipelines.feature_status import FeatureStatus, read_status, status_file, write_status
from mlops_lab.pipelines.feature_worker import FeatureWorker
from mlops_lab.settings import load_settings
from stream_builders import facts_of, rows_of
from waiting import until


class Store(MemoryRows):
    """One that can be away."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.asked = 0

    def write(self, rows: Mapping[RowRef, bytes], progress: Progress) -> None:
        self.asked += 1
        if self.away:
            raise FeatureStoreUnreachable.at("the test", "it is away")
        super().write(rows, progress)


@pytest.fixture(scope="module")
def facts(year: Year) -> list[Message]:
    return facts_of(year, days=1)


@pytest.fixture
def bus(tmp_path: Path) -> SqliteBus:
    return SqliteBus(tmp_path / "bus.db")


@contextmanager
def working(bus: SqliteBus, store: MemoryRows, home: Path) -> Iterator[None]:
    processor = Processor(bus, EventTypes(FlightsOnline.event_types), FlightsOnline().row_state, store, WallClock())
    worker = FeatureWorker(processor, home, WallClock())
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        yield
    finally:
        worker.stop()
        thread.join()


def told(home: Path) -> FeatureStatus:
    found = read_status(status_file(home, "features"))
    assert found is not None
    return found


def test_it_keeps_rows_up_to_date_and_says_so(bus: SqliteBus, facts: list[Message], tmp_path: Path) -> None:
    store = Store()
    with working(bus, store, tmp_path):
        for part in (facts[:500], facts[500:]):
            bus.publish(OBSERVATIONS, part)
            until(lambda: bus.committed("features", OBSERVATIONS) == bus.head(OBSERVATIONS))
    assert store.held == rows_of(facts)

    said = told(tmp_path)
    assert said.state == "stopped"
    assert said.offsets[OBSERVATIONS] == [len(facts)]
    assert said.counts["applied"] == len(facts)
    assert said.watermark_s == int((facts[-1].at - timedelta(minutes=10)).timestamp())
    assert sum(said.rows.values()) == len(store.held)
    assert store.said is not None
    assert said.epoch == store.said.epoch


def test_it_waits_for_the_store_says_so_once_and_loses_nothing(
    bus: SqliteBus, facts: list[Message], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store()
    store.away = True
    bus.publish(OBSERVATIONS, facts)
    with caplog.at_level(logging.INFO), working(bus, store, tmp_path):
        until(lambda: store.asked >= 3)
        until(lambda: told(tmp_path).state == "waiting")
        trouble = told(tmp_path).trouble
        assert bus.committed("features", OBSERVATIONS) == 0
        store.away = False
        until(lambda: bus.committed("features", OBSERVATIONS) == len(facts))
        until(lambda: told(tmp_path).trouble is None)
    assert trouble is not None
    assert "it is away" in trouble["why"]
    assert store.held == rows_of(facts)
    events = [entry.getMessage() for entry in caplog.records]
    assert events.count("features.waits") == 1
    assert events.count("features.goes_on") == 1


def test_a_fault_on_the_way_does_not_end_it(bus: SqliteBus, facts: list[Message], tmp_path: Path) -> None:
    class Odd(Store):
        def write(self, rows: Mapping[RowRef, bytes], progress: Progress) -> None:
            self.asked += 1
            if self.asked < 3:
                raise ZeroDivisionError
            super().write(rows, progress)

    store = Odd()
    bus.publish(OBSERVATIONS, facts)
    with working(bus, store, tmp_path):
        until(lambda: bus.committed("features", OBSERVATIONS) == len(facts))
    assert store.held == rows_of(facts)


def test_rows_go_on_where_the_status_cannot_be_written(bus: SqliteBus, facts: list[Message], tmp_path: Path) -> None:
    store = Store()
    bus.publish(OBSERVATIONS, facts)
    with working(bus, store, tmp_path / "there is no such folder"):
        until(lambda: bus.committed("features", OBSERVATIONS) == len(facts))
    assert store.held == rows_of(facts)


@pytest.mark.parametrize(
    ("parts", "there"),
    [(Chosen(), False), (Chosen("embedded", "sqlite"), True), (Chosen("kafka", "redis"), True)],
)
def test_the_service_is_there_where_a_store_is_to_be_filled(
    parts: Chosen, there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    record(tmp_path, parts)
    assert (FEATURES in [service.name for service in service_specs(load_settings())]) is there


def test_status_of_a_home_without_a_store_says_where_features_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    assert run(["features", "status"]) == 0
    assert "in its own process" in capsys.readouterr().out
    assert run(["features", "rebuild"]) == 2
    assert "lab up --with" in capsys.readouterr().err


def test_status_tells_what_the_processor_said_last(
    bus: SqliteBus, facts: list[Message], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    record(tmp_path, Chosen("embedded", "sqlite"))
    assert run(["features"]) == 0
    assert "has not run in this home yet" in capsys.readouterr().out
    assert not (tmp_path / "online-features.db").exists()  # looking makes nothing

    bus.publish(OBSERVATIONS, facts)
    with working(bus, Store(), tmp_path):
        until(lambda: bus.committed("features", OBSERVATIONS) == len(facts))
        until(lambda: told(tmp_path).lag == {"references": [0], OBSERVATIONS: [0]} and told(tmp_path).counts["applied"] == len(facts))
        assert run(["features", "status", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
    assert found["runs"] is True
    assert found["store"] == "sqlite"
    assert found["processor"]["counts"]["applied"] == len(facts)
    assert found["processor"]["lag"] == {"references": [0], OBSERVATIONS: [0]}
    assert found["progress"] is None  # this store is another one

    assert run(["features", "status"]) == 0
    shown = capsys.readouterr().out
    assert f"{len(facts):,}" in shown
    assert "It does not run" in shown


def test_what_is_no_status_counts_as_none(tmp_path: Path) -> None:
    path = status_file(tmp_path, "features")
    for content in ("", "[]", '{"pid": 1}', "not json"):
        path.write_text(content, encoding="utf-8")
        assert read_status(path) is None
    said = FeatureStatus(1, 2.0, 1.0, "working", None, 0, {}, {}, {}, {}, 0.0, "e", 0, 0, 0)
    write_status(path, said)
    assert read_status(path) == said
