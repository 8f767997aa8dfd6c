"""The guard beside the worker's other duties, and the settings that it lives by."""

from dataclasses import replace

import pytest

from guard_builders import GuardedLab
from mlops_lab.errors import RegistryUnreachable, SettingsWrong
from mlops_lab.events import CONTROL, relay
from mlops_lab.pipelines import worker
from mlops_lab.pipelines.handlers import WATCHING
from mlops_lab.pipelines.worker import Worker
from mlops_lab.serving.faults import Faults
from mlops_lab.settings import load_settings


def test_the_watcher_looks_between_messages_and_survives_a_guard_that_fails(lab: GuardedLab, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []

    def look() -> None:
        looks.append(1)
        raise RegistryUnreachable.at("the tests' ledger", "it is down")

    monkeypatch.setattr(worker, "GUARD_EVERY_S", 0.0)
    watcher = Worker(lab, replace(WATCHING, guard=lambda _: look, facts={}, orders={}))
    relay(lab.outbox, lab.bus)
    waiting = lab.bus.head(CONTROL) - lab.bus.committed("watcher", CONTROL)

    handled = watcher.step()

    assert handled == min(waiting, 100) > 1
    assert len(looks) == handled + 1


def test_a_fault_fails_a_share_of_the_requests_and_always_the_same() -> None:
    faults, off = Faults(0.05), Faults()
    ids = [f"request-{i}" for i in range(20_000)]

    assert sum(map(faults.fails, ids)) / len(ids) == pytest.approx(0.05, abs=0.006)
    assert [faults.fails(each) for each in ids[:500]] == [Faults(0.05).fails(each) for each in ids[:500]]
    assert not any(map(off.fails, ids))
    assert all(map(Faults(1.0).fails, ids))


def test_the_deadline_lies_before_the_end_of_the_replicas_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_SERVICE__CANARY_LEASE_S", "1800")
    with pytest.raises(SettingsWrong, match=r"DEADLINE_S \(1800\) is not below"):
        load_settings()
    monkeypatch.setenv("LAB_CANARY__DEADLINE_S", "900")
    assert load_settings().canary.deadline_s == 900


def test_whatever_an_idle_worker_stumbles_over_does_not_end_the_guard(
    lab: GuardedLab, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Such as a folder that is called like a part of the log."""
    monkeypatch.setattr(worker, "IDLE_EVERY_S", 0.0)
    monkeypatch.setattr(worker, "GUARD_EVERY_S", 0.0)
    monkeypatch.setattr(worker, "RETRY_S", 0.01)
    looks: list[int] = []
    stumbles: list[int] = []

    def stumble(_: object) -> None:
        stumbles.append(len(looks))
        if watcher._stop.is_set():
            return
        raise IsADirectoryError(21, "Is a directory")

    def look() -> None:
        looks.append(len(looks))
        if len(looks) == 5:
            watcher.stop()

    watcher = Worker(lab, replace(WATCHING, ahead=stumble, idle=stumble, guard=lambda _: look))
    watcher.run()

    assert len(looks) == 5
    assert len(stumbles) >= 4
    assert "worker.stumbled" in caplog.text
    assert "IsADirectoryError" in caplog.text
