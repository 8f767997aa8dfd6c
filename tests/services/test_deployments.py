"""What a real Prefect server makes of the deployments and automations: runs start, with parameters that it accepts."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import held_training
from mlops_lab.bootstrap.founding import found
from mlops_lab.embedded.ready import is_ready
from mlops_lab.events import CONTROL, Message
from mlops_lab.pipelines import silence
from mlops_lab.pipelines.handing_over import HANDING_OVER
from mlops_lab.pipelines.ingest import ingest
from mlops_lab.pipelines.orders import TrainModel
from mlops_lab.pipelines.prefect_api import HEARTBEAT_S, SILENCE_S, SKILL_LOST, PrefectApi, parameters_of
from mlops_lab.pipelines.worker import Worker, settled
from own_redis import free_port
from parcel_builders import week
from pipeline_builders import SmallLab, deliver

ORDER = TrainModel("train-retrain-2013-W26", datetime(2013, 7, 1, 12, tzinfo=UTC), "trainer", origin="retrain", flip_share=0.25)
LATER = replace(ORDER, id="train-retrain-2013-W27")


def within(seconds: float, found: Callable[[], Any]) -> Any:
    """What is found before time is up; it may be nothing."""
    end = time.monotonic() + seconds
    while not (said := found()) and time.monotonic() < end:
        time.sleep(0.5)
    return said


class Server:
    """A Prefect server of the test's own; what it stored is there again when it is started again."""

    def __init__(self, home: Path) -> None:
        self._port, self._log = free_port(), home / "server.log"
        self.url = f"http://127.0.0.1:{self._port}/api"
        self.env = os.environ | {"PREFECT_HOME": str(home), "PREFECT_API_URL": self.url, "PYTHONPATH": os.pathsep.join(sys.path)}

    def start(self) -> None:
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(self._port)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, env=self.env, stdout=log, stderr=log)
        assert within(180, lambda: is_ready(f"{self.url}/ready")), self._log.read_text(encoding="utf-8")

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        self._process.send_signal(number)
        self._process.wait(60)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    try:
        server.start()
        yield server
    finally:
        server.end()


@pytest.fixture
def prefect(server: Server) -> PrefectApi:
    """Everything registered by the command, twice."""
    for _ in range(2):
        subprocess.run([sys.executable, "-m", "mlops_lab.cli.main", "flows", "register"], env=server.env, check=True, capture_output=True)
    return PrefectApi(server.url, 30)


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


def test_an_automation_that_a_person_switched_off_stays_off(prefect: PrefectApi, server: Server) -> None:
    """Also when it has to be mended."""

    def found() -> dict[str, Any]:
        return {each["name"]: each for each in prefect._call("POST", "/automations/filter", {})}

    def registered() -> list[str]:
        command = [sys.executable, "-m", "mlops_lab.cli.main", "flows", "register"]
        said = subprocess.run(command, env=server.env, check=True, capture_output=True, text=True).stdout
        return [line for line in said.splitlines() if "switched off" in line]

    name = "lost skill starts a training"
    prefect._call("PATCH", f"/automations/{found()[name]['id']}", {"enabled": False})
    assert registered() == [f"automation '{name}' is there, switched off"]

    kept = {part: found()[name][part] for part in ("name", "enabled", "actions", "trigger")}
    prefect._call("PUT", f"/automations/{found()[name]['id']}", kept | {"description": "a person's own"})
    assert registered() == [f"automation '{name}' changed, switched off"]

    assert found()[name]["description"].startswith("The watch found")
    assert [each for each, one in found().items() if not one["enabled"]] == [name]


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


def age_s(of: dict[str, Any]) -> float:
    """Seconds since an event."""
    return (datetime.now(UTC) - datetime.fromisoformat(of["occurred"])).total_seconds()


FORGETS_S = SILENCE_S + 60
"""A server that comes back this long after a run's last heartbeat has forgotten that it waits for the next one: Prefect keeps what it was
late for 60 s (PREFECT_SERVER_EVENTS_EXPIRED_BUCKET_BUFFER)."""

AWAY = [pytest.param(0, "its process is gone", id="restarted")]
if os.environ.get("LAB_TEST_LONG"):  # six minutes: see the Makefile
    AWAY.append(pytest.param(FORGETS_S + 10, "found by the watcher", id="away-for-long"))


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("back_after_s", "found_by"), AWAY)
def test_a_training_killed_in_its_middle_is_found_by_its_silence_and_done_by_another_run(
    prefect: PrefectApi, server: Server, lab: SmallLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, back_after_s: float, found_by: str
) -> None:
    """Fact, event, automation, run, version, promotion: nobody calls a function in between, and nothing half done is left. The server is
    killed with the run, as where a machine goes down; then it acts late on the crash of a young run, and the watcher does not wait."""
    impatient = lab.settings.orchestration.model_copy(update={"patience_s": 60.0})
    lab.settings = lab.settings.model_copy(update={"orchestration": impatient})
    if back_after_s:
        monkeypatch.setattr(silence, "SILENT_FOR", timedelta(seconds=HEARTBEAT_S + 5))
    order = f"train-retrain-{week(6).id}"
    lost = Message("SkillLost", week(7).start, lab.model, {"window": week(6).id, "version": 1, "because": "a test"}, id="lost-6")
    hold, pid = lab.home / held_training.HOLD, lab.home / held_training.RUN
    hold.touch()
    lab.bus.publish(CONTROL, [lost])
    watcher = Worker(lab, HANDING_OVER)

    def watched(found: Callable[[], Any]) -> Any:
        while watcher.step():
            pass
        return found()

    watched(lambda: None)
    with worker(lab, prefect, tmp_path / "one") as first:
        assert within(120, pid.exists), (tmp_path / "one" / "worker.log").read_text(encoding="utf-8")
        assert within(60, lambda: events(prefect, "flow-run.heartbeat")), "silence is found only of a run that was heard of"
        first.kill()
        first.wait()
        os.kill(int(pid.read_text(encoding="utf-8")), signal.SIGKILL)
        last = events(prefect, "flow-run.heartbeat")[0]
        server.end(signal.SIGKILL)
    time.sleep(max(0.0, back_after_s - age_s(last)))
    server.start()
    assert not settled(lab)
    assert not lab.ledger.versions()
    hold.unlink()
    if back_after_s:
        assert not within(20, lambda: [run["state_type"] for run in runs(prefect, attempt=1)] != ["RUNNING"]), "the server finds it itself"
    assert within(200, lambda: watched(lambda: [run["state_type"] for run in runs(prefect, attempt=1)] == ["CRASHED"]))

    with worker(lab, prefect, tmp_path / "two"):
        ended = within(300, lambda: watched(lambda: lab.ledger.facts("order_done", order) or lab.ledger.facts("order_failed", order)))
        assert ended, (runs(prefect, attempt=2), (tmp_path / "two" / "worker.log").read_text(encoding="utf-8"))
        assert within(60, lambda: [run["state_type"] for run in runs(prefect, attempt=2)] == ["COMPLETED"])
    watched(lambda: None)

    [killed] = runs(prefect, attempt=1)
    assert killed["state_type"] == "CRASHED"
    assert found_by in killed["state"]["message"]
    assert not lab.ledger.facts("order_failed")
    assert len(lab.ledger.facts("order_done")) == 1
    assert [version.number for version in lab.ledger.versions()] == [1]
    assert lab.ledger.champion().version == 1
    assert settled(lab)
