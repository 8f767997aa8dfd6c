"""What a real Prefect server makes of the deployments and automations: runs start, with parameters that it accepts."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import held_training
from mlops_lab.bootstrap.founding import found
from mlops_lab.embedded.ready import is_ready
from mlops_lab.events import CONTROL, Message
from mlops_lab.pipelines.handlers import HANDING_OVER
from mlops_lab.pipelines.ingest import ingest
from mlops_lab.pipelines.orders import TrainModel
from mlops_lab.pipelines.prefect_api import SKILL_LOST, PrefectApi, parameters_of
from mlops_lab.pipelines.worker import Worker, settled
from own_redis import free_port
from pipeline_builders import SmallLab, deliver, week

ORDER = TrainModel("train-retrain-2013-W26", datetime(2013, 7, 1, 12, tzinfo=UTC), "trainer", origin="retrain", flip_share=0.25)
LATER = replace(ORDER, id="train-retrain-2013-W27")


def within(seconds: float, found: Callable[[], Any]) -> Any:
    """What is found before time is up; it may be nothing."""
    end = time.monotonic() + seconds
    while not (said := found()) and time.monotonic() < end:
        time.sleep(0.5)
    return said


@pytest.fixture
def prefect(tmp_path: Path) -> Iterator[PrefectApi]:
    """A server of the test's own, with everything registered by the command, twice."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    env = os.environ | {"PREFECT_HOME": str(tmp_path), "PREFECT_API_URL": url, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with (tmp_path / "server.log").open("wb") as log:
        server = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    try:
        assert within(180, lambda: is_ready(f"{url}/ready")), (tmp_path / "server.log").read_text(encoding="utf-8")
        for _ in range(2):
            subprocess.run([sys.executable, "-m", "mlops_lab.cli.main", "flows", "register"], env=env, check=True, capture_output=True)
        yield PrefectApi(url, 30)
    finally:
        server.terminate()
        server.wait(60)


def runs(prefect: PrefectApi, *, attempt: int, order: str = "") -> list[dict[str, Any]]:
    """Runs of trainings that were begun for the so-many-th time, of one order or of all."""
    found = prefect._call("POST", "/flow_runs/filter", {"sort": "EXPECTED_START_TIME_DESC", "limit": 50})
    trainings = [run for run in found if run["parameters"].get("order_id", "").startswith(order or "train-")]
    return [run for run in trainings if run["parameters"].get("attempt", 1) == attempt]


def events(prefect: PrefectApi, name: str) -> list[dict[str, Any]]:
    """What the server says of itself."""
    return list(prefect._call("POST", "/events/filter", {"filter": {"event": {"name": [f"prefect.{name}"]}}, "limit": 50})["events"])


def has_acted_on(prefect: PrefectApi, order: str) -> bool:
    """Whether an event was worked on, and all before it: automations fall due in the order of events, and act as they come."""
    due = events(prefect, "automation.triggered")
    told = {one["payload"]["triggering_event"]["payload"]["order_id"] for one in due}
    return order in told and len(due) == len(events(prefect, "automation.action.executed"))


def test_an_event_starts_one_run_and_a_crash_another(prefect: PrefectApi) -> None:
    """A template gives text; the server refuses a run whose numbers are text, and then nothing is trained."""
    for _ in range(2):
        prefect.emit(SKILL_LOST, "lost-2013-W26", "flight-delay", parameters_of(ORDER), ORDER.at)
    prefect.emit(SKILL_LOST, "lost-2013-W27", "flight-delay", parameters_of(LATER), LATER.at)
    assert within(60, lambda: has_acted_on(prefect, LATER.id))
    (run,) = runs(prefect, attempt=1, order=ORDER.id)
    assert run["parameters"] == parameters_of(ORDER)

    crashed = {"state": {"type": "CRASHED", "name": "Crashed", "message": "a test"}, "force": True}
    prefect._call("POST", f"/flow_runs/{run['id']}/set_state", crashed)
    (again,) = within(60, lambda: runs(prefect, attempt=2))
    assert again["parameters"] == parameters_of(ORDER) | {"attempt": 2}


def test_a_crash_of_a_run_with_only_what_was_typed_is_begun_again_with_the_defaults(prefect: PrefectApi) -> None:
    typed = {name: parameters_of(ORDER)[name] for name in ("order_id", "origin", "at")}
    run = prefect.run_deployment("train/train", typed, "by-hand")
    [told] = prefect.runs_of_orders()
    assert (told.order, told.state) == (ORDER.id, "SCHEDULED")
    assert told.since.tzinfo is not None

    crashed = {"state": {"type": "CRASHED", "name": "Crashed", "message": "a test"}, "force": True}
    prefect._call("POST", f"/flow_runs/{run}/set_state", crashed)

    (again,) = within(60, lambda: runs(prefect, attempt=2))
    assert again["parameters"] == typed | {"by": "trainer", "flip_share": 0.0, "traceparent": "", "attempt": 2}


def test_registering_again_writes_nothing_and_mends_what_was_changed(prefect: PrefectApi) -> None:
    """Sets come in another order in each process; an automation that is written again forgets the runs that it waits for."""

    def triggers() -> dict[str, Any]:
        return {each["name"]: each["trigger"] for each in prefect._call("POST", "/automations/filter", {})}

    def registered(seed: int) -> list[str]:
        env = os.environ | {"PREFECT_API_URL": prefect.url, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": str(seed)}
        command = [sys.executable, "-m", "mlops_lab.cli.main", "flows", "register"]
        said = subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout
        return [line for line in said.splitlines() if line.endswith((" made", " changed"))]

    before = triggers()
    assert [registered(seed) for seed in range(1, 9)] == [[]] * 8
    assert {name: each["id"] for name, each in triggers().items()} == {name: each["id"] for name, each in before.items()}

    [there] = [each for each in prefect._call("POST", "/automations/filter", {}) if each["name"] == "a run without heartbeat has crashed"]
    kept = {part: there[part] for part in ("name", "description", "enabled", "actions")}
    prefect._call("PUT", f"/automations/{there['id']}", kept | {"trigger": there["trigger"] | {"within": 77}})
    assert registered(1) == ["automation 'a run without heartbeat has crashed' changed"]
    assert triggers()[there["name"]]["within"] == 90


@pytest.fixture
def lab(tmp_path: Path, prefect: PrefectApi, monkeypatch: pytest.MonkeyPatch) -> SmallLab:
    """Six weeks of history and no model; `train/train` is the flow on this home."""
    monkeypatch.setenv("PREFECT_API_URL", prefect.url)
    lab = held_training.small_lab(tmp_path / "home")
    found(lab)
    for number in range(1, 7):
        ingest(deliver(lab, week(number)), lab)
    here = prefect._call("GET", "/deployments/name/train/train")
    prefect._call("PATCH", f"/deployments/{here['id']}", {"entrypoint": "held_flow.train_held"})
    return lab


@contextmanager
def worker(lab: SmallLab, prefect: PrefectApi, said: Path) -> "Iterator[subprocess.Popen[bytes]]":
    """Prefect's own, as in the stack: each run is a process."""
    said.mkdir()
    env = os.environ | {"PREFECT_HOME": str(said), "LAB_HOME": str(lab.home), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    env |= {"PREFECT_API_URL": prefect.url, "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30", "PREFECT_WORKER_QUERY_SECONDS": "2"}
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "lab", "--type", "process"]
    with (said / "worker.log").open("wb") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


@pytest.mark.timeout(600)
def test_a_training_killed_in_its_middle_is_found_by_its_silence_and_done_by_another_run(
    prefect: PrefectApi, lab: SmallLab, tmp_path: Path
) -> None:
    """Fact, event, automation, run, version, promotion: nobody calls a function in between, and nothing half done is left."""
    order = f"train-retrain-{week(6).id}"
    lost = Message("SkillLost", week(7).start, lab.model, {"window": week(6).id, "version": 1, "because": "a test"}, id="lost-6")
    hold, pid = lab.home / held_training.HOLD, lab.home / held_training.RUN
    hold.touch()
    lab.bus.publish(CONTROL, [lost])
    watcher = Worker(lab, HANDING_OVER)
    while watcher.step():
        pass

    with worker(lab, prefect, tmp_path / "one") as first:
        assert within(120, pid.exists), (tmp_path / "one" / "worker.log").read_text(encoding="utf-8")
        assert within(60, lambda: events(prefect, "flow-run.heartbeat")), "silence is found only of a run that was heard of"
        first.kill()
        first.wait()
        os.kill(int(pid.read_text(encoding="utf-8")), signal.SIGKILL)
    assert not settled(lab)
    assert not lab.ledger.versions()
    hold.unlink()

    with worker(lab, prefect, tmp_path / "two"):
        assert within(300, lambda: lab.ledger.facts("order_done", order) or lab.ledger.facts("order_failed", order))
        assert within(60, lambda: [run["state_type"] for run in runs(prefect, attempt=2)] == ["COMPLETED"])
    while watcher.step():
        pass

    assert [run["state_type"] for run in runs(prefect, attempt=1)] == ["CRASHED"]
    assert not lab.ledger.facts("order_failed")
    assert len(lab.ledger.facts("order_done")) == 1
    assert [version.number for version in lab.ledger.versions()] == [1]
    assert lab.ledger.champion().version == 1
    assert settled(lab)
