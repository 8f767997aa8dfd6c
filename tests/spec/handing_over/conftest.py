"""A home whose trainings are deployments of a server, and that server."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from handing_over_builders import DRILL, Server, impatient
from mlops_lab.bootstrap import Lab
from mlops_lab.pipelines.handing_over import HANDING_OVER
from mlops_lab.pipelines.handlers import handle
from mlops_lab.settings import OrchestrationSettings, Settings


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{running.server_port}/api")
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(Settings(home=tmp_path, orchestration=OrchestrationSettings(mode="deployments", timeout_s=5)))


@pytest.fixture
def ordered(lab: Lab, server: Server) -> Lab:
    """An order is open for longer than one is patient."""
    handle(DRILL.to_message(lab.model), lab, HANDING_OVER)
    server.asked.clear()
    return impatient(lab)
