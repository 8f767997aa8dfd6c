"""What a real Prefect server makes of the deployments and automations: runs start, with parameters that it accepts."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mlops_lab.embedded.ready import is_ready
from mlops_lab.pipelines.orders import TrainModel
from mlops_lab.pipelines.prefect_api import SKILL_LOST, PrefectApi, parameters_of
from own_redis import free_port

ORDER = TrainModel("train-retrain-2013-W26", datetime(2013, 7, 1, 12, tzinfo=UTC), "trainer", origin="retrain", flip_share=0.25)


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


def runs(prefect: PrefectApi, *, attempt: int) -> list[dict[str, Any]]:
    found = prefect._call("POST", "/flow_runs/filter", {"sort": "EXPECTED_START_TIME_DESC", "limit": 50})
    return [run for run in found if "order_id" in run["parameters"] and run["parameters"].get("attempt", 1) == attempt]


def test_an_event_starts_one_run_and_a_crash_another(prefect: PrefectApi) -> None:
    """A template gives text; the server refuses a run whose numbers are text, and then nothing is trained."""
    for _ in range(2):
        prefect.emit(SKILL_LOST, "lost-2013-W26", "flight-delay", parameters_of(ORDER), ORDER.at)
    within(60, lambda: runs(prefect, attempt=1))
    time.sleep(3)
    (run,) = runs(prefect, attempt=1)
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
