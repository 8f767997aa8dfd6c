"""The loop's numbers for Prometheus: read from the records, so that a restart resets nothing, and missing where nothing can be read."""

import os
import threading
import time
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from math import isnan
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn, cast

import pytest
from prometheus_client.parser import text_string_to_metric_families

from feedback_builders import a_report
from mlops_lab.bootstrap import Lab
from mlops_lab.bootstrap.founding import found
from mlops_lab.bootstrap.identities import PLATFORM
from mlops_lab.errors import BusUnreachable, RegistryUnreachable
from mlops_lab.events import FEEDBACK, EventBus
from mlops_lab.events.spool import SpooledBus
from mlops_lab.features.shard import Shard
from mlops_lab.pipelines import on_prometheus
from mlops_lab.pipelines.feature_status import FeatureStatus, status_file, write_status
from mlops_lab.pipelines.feedback import take_in_feedback
from mlops_lab.pipelines.guard import TRIAL
from mlops_lab.pipelines.measured import DESCRIBED, PARTS, PREFIX, Sample
from mlops_lab.pipelines.on_prometheus import LoopMetrics, serve
from mlops_lab.settings import Settings
from pipeline_builders import SmallLab

AT = datetime(2013, 7, 1, 12, tzinfo=UTC)
RECORD = {
    "window": "2013-W26",
    "start": "2013-06-24T00:00:00Z",
    "end": "2013-07-01T00:00:00Z",
    "at": "2013-07-01T12:00:00Z",
    "outcome": "retrain",
    "because": "unexplained loss in 3 of 4 weeks",
    "champion": 1,
    "counts": True,
    "evidence": {
        "coverage": 0.95,
        "drift": {"share": 0.25, "columns": [{"name": "carrier", "value": 0.03}], "prediction": {"name": "probability", "value": 0.1}},
        "performance": {
            "auc": 0.7,
            "brier": 0.2,
            "brier_skill": 0.1,
            "base_rate": 0.3,
            "unexplained": {"low": 0.03, "mean": 0.05, "high": 0.08},
        },
    },
}


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    lab = Lab(Settings(home=tmp_path))
    found(lab)
    return lab


def measured(lab: Lab, *workers: str) -> list[Sample]:
    """All numbers of all parts."""
    return [sample for read in PARTS.values() for sample in read(lab, workers)]


def said(lab: Lab) -> dict[tuple[str, tuple[str, ...]], float]:
    return {(sample.name, sample.labels): sample.value for sample in measured(lab, "watcher")}


def test_a_home_in_which_nothing_happened_has_no_week_and_no_champion(lab: Lab) -> None:
    now = said(lab)

    assert now["champion_version", ()] == 0
    assert now["decisions_total", ("retrain",)] == 0
    assert ("week_auc", ()) not in now
    assert ("event_time_seconds", ()) not in now


def test_the_newest_week_is_told_with_its_skill_drift_and_coverage(lab: Lab) -> None:
    lab.ledger.record_decision("2013-W26", RECORD, at=AT, by=PLATFORM)

    now = said(lab)

    assert now["event_time_seconds", ()] == AT.timestamp()
    assert now["decisions_total", ("retrain",)] == now["last_decision", ("retrain",)] == 1
    assert now["week_auc", ()] == 0.7
    assert [now["week_unexplained_loss", (bound,)] for bound in ("low", "mean", "high")] == [0.03, 0.05, 0.08]
    assert now["week_drift", ("probability",)] == 0.1
    assert now["week_label_coverage_ratio", ()] == 0.95


def test_an_order_is_open_until_it_has_ended_and_a_restart_forgets_nothing(lab: Lab) -> None:
    lab.ledger.record("order", "train-retrain-2013-W26", {"origin": "retrain"}, at=AT, by=PLATFORM, why="retrain")
    assert said(lab)["open_order_age_seconds", ()] > 0

    lab.ledger.record("order_done", "train-retrain-2013-W26", {"version": 2}, at=AT, by=PLATFORM, why="promote")

    again = said(Lab(lab.settings))
    assert again["open_order_age_seconds", ()] == 0
    assert again["orders_total", ("given",)] == again["orders_total", ("done",)] == 1
    assert again["last_training_seconds", ()] > 0


def test_a_reported_outcome_waits_until_it_is_in_its_table(tmp_path: Path) -> None:
    lab = SmallLab(tmp_path)
    found(lab)
    assert said(lab)["outcomes_waiting", ()] == 0

    lab.bus.publish(FEEDBACK, [a_report(1), a_report(2)])
    assert said(lab)["outcomes_waiting", ()] == 2

    assert take_in_feedback(lab) == 2
    assert said(lab)["outcomes_waiting", ()] == 0


def test_trials_of_canaries_are_counted_by_how_they_ended(lab: Lab) -> None:
    for assignment, outcome in (("3", "abort"), ("5", "passed"), ("7", "abort")):
        lab.ledger.record(TRIAL, assignment, {"outcome": outcome}, at=AT, by=PLATFORM, why="a trial")

    now = said(lab)

    assert (now["canary_trials_total", ("abort",)], now["canary_trials_total", ("passed",)]) == (2, 1)


def test_the_stream_processor_is_told_of_only_where_a_home_has_one(lab: Lab) -> None:
    """A home that had one under other settings keeps its last words, which would be a silence that never ends."""
    words = FeatureStatus(1, 1e9, 1e9, "working", None, 1000, {}, {"observations": [3, 4]}, {"applied": 9}, {}, 1e9, "e", 0, 0, 0)
    write_status(status_file(lab.home, Shard().group), words)

    with_one = {sample.name: sample.value for sample in measured(lab, "watcher", "features")}

    assert (with_one["processor_behind"], with_one["processor_watermark_seconds"]) == (7, 1000)
    assert not [name for name, _ in said(lab) if name.startswith("processor_")]


def test_a_worker_is_heard_by_the_sign_that_it_gives_again_and_again(lab: Lab) -> None:
    """The stream processor writes `features.ready` once, when it begins: by that it would be silent for ever."""
    for name, at_s in (("watcher.ready", 2000), ("features.ready", 1000), ("features.json", 3000)):
        (lab.home / name).touch()
        os.utime(lab.home / name, (at_s, at_s))

    heard = {sample.labels: sample.value for sample in measured(lab, "watcher", "features") if sample.name == "worker_heard_seconds"}

    assert heard == {("watcher",): 2000, ("features",): 3000}


def test_a_worker_that_was_never_heard_has_no_number(lab: Lab) -> None:
    assert isnan(said(lab)["worker_heard_seconds", ("watcher",)])


def test_every_number_is_described_and_every_label_has_a_value(lab: Lab) -> None:
    lab.ledger.record_decision("2013-W26", RECORD, at=AT, by=PLATFORM)

    for sample in measured(lab, "watcher"):
        assert len(sample.labels) == len(DESCRIBED[sample.name][2]), sample


def test_the_page_is_what_prometheus_reads(lab: Lab) -> None:
    lab.ledger.record_decision("2013-W26", RECORD, at=AT, by=PLATFORM)
    server = serve(LoopMetrics(Lab(lab.settings), ["watcher"]), "127.0.0.1", 0)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics", timeout=10) as answer:
            families = {family.name: family for family in text_string_to_metric_families(answer.read().decode())}
    finally:
        server.shutdown()
        server.server_close()

    assert {sample.labels["part"]: sample.value for sample in families[f"{PREFIX}readable"].samples} == dict.fromkeys(PARTS, 1)
    assert {sample.labels["outcome"] for sample in families[f"{PREFIX}decisions"].samples} >= {"ok", "retrain", "data_incident"}
    assert all(families[name].documentation for name in families)


class Broker:
    """A bus on a server; away, or hanging until `go`."""

    def __init__(self, hangs: bool = False) -> None:
        self.go = threading.Event()
        if not hangs:
            self.go.set()

    def __getattr__(self, name: str) -> Callable[..., NoReturn]:
        def asked(*_: object) -> NoReturn:
            assert self.go.wait(10)
            raise BusUnreachable.broker("kafka:9092", "no answer")

        return asked


def page(metrics: LoopMetrics) -> dict[str, dict[tuple[str, ...], float]]:
    """Value by name and labels."""
    return {
        family.name.removeprefix(PREFIX): {tuple(sample.labels.values()): sample.value for sample in family.samples}
        for family in metrics.collect()
    }


def unreadable(metrics: LoopMetrics) -> set[str]:
    return {part for (part,), value in page(metrics)["readable"].items() if not value}


def test_a_ledger_that_cannot_be_read_is_said_and_no_old_number_of_it_is_told(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = LoopMetrics(lab, ["watcher"], keep_s=0)
    assert unreadable(metrics) == set()

    def gone(*_: object) -> NoReturn:
        raise RegistryUnreachable.at("postgresql", "it is gone")

    monkeypatch.setattr(type(lab.ledger), "versions", gone)

    assert page(metrics).keys() == {"readable", "spool_waiting", "outcomes_waiting", "dead_letters", "worker_heard_seconds"}
    assert unreadable(metrics) == {"ledger"}
    monkeypatch.undo()
    assert unreadable(metrics) == set()


def test_while_the_broker_is_away_what_waits_for_it_is_told_and_all_but_the_bus(lab: Lab) -> None:
    """It is then that somebody has to hear of it."""
    lab.bus = SpooledBus(cast(EventBus, Broker()), lab.home / "spool.db", lambda topic, messages: None)
    lab.bus.publish(FEEDBACK, [a_report(1), a_report(2)])

    told = page(LoopMetrics(lab, ["watcher"]))

    assert told["spool_waiting"]["feedback",] == 2
    assert told["champion_version"] == {(): 0}
    assert told["readable"] == dict.fromkeys(((part,) for part in PARTS), 1) | {("bus",): 0}
    assert not told.keys() & {"outcomes_waiting", "dead_letters"}
    lab.bus.close()


def test_a_page_does_not_wait_for_a_broker_that_hangs(lab: Lab) -> None:
    """Prometheus would give the page up and take the watcher for down."""
    broker = Broker(hangs=True)
    lab.bus = cast(EventBus, broker)
    metrics = LoopMetrics(lab, ["watcher"], keep_s=0, part_s=0.2)
    lab.bus.waiting = dict  # type: ignore[method-assign]  # the spool is a file
    began = time.monotonic()

    assert unreadable(metrics) == {"bus"}
    assert unreadable(metrics) == {"bus"}
    assert time.monotonic() - began < 5
    broker.go.set()
    del lab.bus
    while unreadable(metrics):
        assert time.monotonic() - began < 20
        time.sleep(0.01)


def test_all_parts_that_hang_together_are_not_waited_for_longer_than_a_scrape(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_prometheus, "PAGE_S", 0.3)
    go = threading.Event()
    monkeypatch.setattr(on_prometheus, "PARTS", {part: lambda *_: [go.wait(10)] for part in PARTS})
    began = time.monotonic()

    assert unreadable(LoopMetrics(lab, ["watcher"])) == set(PARTS)

    assert time.monotonic() - began < 2  # five parts of two seconds each
    go.set()


def test_a_part_that_stumbles_is_told_once_and_takes_no_other_with_it(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    lab.ledger.record_decision("2013-W26", {**RECORD, "evidence": {"drift": {"columns": [{}]}}}, at=AT, by=PLATFORM)
    metrics = LoopMetrics(lab, ["watcher"], keep_s=0)

    assert unreadable(metrics) == unreadable(metrics) == {"ledger"}

    broken, told = (record for record in caplog.records if record.name == on_prometheus.__name__)
    assert (broken.getMessage(), broken.exc_info is not None) == ("metrics.broken", True)
    assert (told.getMessage(), told.__dict__["part"], told.__dict__["why"]) == ("metrics.unreadable", "ledger", "KeyError('value')")


class SlowToEnd:
    """As a client of Kafka that is let go of while it looks for its broker."""

    def __init__(self, ended_on: list[str]) -> None:
        self._ended_on = ended_on

    def __del__(self) -> None:
        self._ended_on.append(threading.current_thread().name)


@pytest.mark.parametrize("hangs", [False, True])
def test_what_a_part_leaves_behind_ends_on_its_own_thread(lab: Lab, hangs: bool) -> None:
    """Else the page would wait for that, whatever its deadline."""
    ended_on: list[str] = []
    broker = Broker(hangs)

    def head(*_: object) -> NoReturn:
        client = SlowToEnd(ended_on)
        broker.head()
        raise AssertionError(client)

    lab.bus = cast(EventBus, SimpleNamespace(waiting=dict, head=head, committed=broker.committed, partitions=lambda topic: 1))
    metrics = LoopMetrics(lab, ["watcher"], keep_s=0, part_s=0.2 if hangs else 10)

    assert unreadable(metrics) == {"bus"}
    broker.go.set()
    while not ended_on:
        unreadable(metrics)

    assert set(ended_on) == {"numbers-bus"}
