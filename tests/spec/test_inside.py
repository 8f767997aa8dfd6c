"""In a container of the stack: other services are other containers, so each is asked whether it works and none is started or stopped."""

import json
import os
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from mlops_lab.bootstrap.running import SILENT_S, require_not_gone, require_works, works
from mlops_lab.cli.main import run
from mlops_lab.errors import ServiceNotReady, SettingsWrong
from mlops_lab.settings import ServiceSettings, Settings, load_settings


class Replica:
    """Answers /readyz with `status`, and everything else with 404."""

    def __init__(self) -> None:
        self.status = 200
        replica = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(replica.status if self.path == "/readyz" else 404)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Says nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def replica() -> Iterator[Replica]:
    made = Replica()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def settings(tmp_path: Path, replica: Replica) -> Settings:
    return Settings(profile="inside", home=tmp_path, service=ServiceSettings(at=replica.address))


@pytest.fixture
def environment(tmp_path: Path, replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"LAB_PROFILE": "inside", "LAB_HOME": str(tmp_path), "LAB_SERVICE__AT": replica.address}
    monkeypatch.setattr(os, "environ", {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")} | said)


def touched(home: Path, name: str, age_s: float) -> None:
    home.joinpath(name).touch()
    then = time.time() - age_s
    os.utime(home / name, (then, then))


def test_the_service_works_when_it_says_that_it_is_ready(settings: Settings, replica: Replica) -> None:
    assert works(settings, "inference")

    replica.status = 503

    assert not works(settings, "inference")
    with pytest.raises(ServiceNotReady, match=replica.address):
        require_works(settings, "inference")


@pytest.mark.parametrize(("name", "sign"), [("watcher", "watcher.ready"), ("trainer", "trainer.ready"), ("features", "features.json")])
def test_a_worker_works_as_long_as_it_gives_signs_of_life(name: str, sign: str, settings: Settings) -> None:
    assert not works(settings, name)

    touched(settings.home, sign, SILENT_S[name] - 5)
    require_works(settings, name)
    assert works(settings, name)

    touched(settings.home, sign, SILENT_S[name] + 5)
    assert not works(settings, name)
    with pytest.raises(ServiceNotReady, match=f"docker compose logs {name}"):
        require_works(settings, name)


def test_who_waits_bears_a_service_that_is_started_again_and_no_worker_that_is_gone(settings: Settings, replica: Replica) -> None:
    replica.status = 503

    require_not_gone(settings, "inference")
    with pytest.raises(ServiceNotReady, match="no sign of life yet"):
        require_not_gone(settings, "watcher")


def test_on_this_machine_nobody_is_asked_but_the_supervisor(settings: Settings) -> None:
    embedded = settings.model_copy(update={"profile": "embedded"})
    touched(settings.home, "watcher.ready", 0)

    assert not works(embedded, "inference")
    with pytest.raises(ServiceNotReady, match="stopped"):
        require_not_gone(embedded, "watcher")


@pytest.mark.usefixtures("environment")
def test_status_shows_each_part_with_its_address_and_what_it_answered(
    tmp_path: Path, replica: Replica, capsys: pytest.CaptureFixture[str]
) -> None:
    touched(tmp_path, "watcher.ready", 1)
    touched(tmp_path, "trainer.ready", SILENT_S["trainer"] + 100)

    assert run(["status", "--json"]) == 0

    said = json.loads(capsys.readouterr().out)
    parts = {part["name"]: part for part in said["parts"]}
    assert said["services"] == []
    assert parts["inference"]["address"] == replica.address
    assert {name for name, part in parts.items() if not part["trouble"]} == {"events", "features", "inference", "watcher"}
    assert "PREFECT_API_URL" in parts["prefect"]["next"]
    assert "LAB_TRACKING__URI" in parts["mlflow"]["next"]


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("word", ["up", "down", "demo", "chaos"])
def test_nothing_is_started_or_stopped_from_inside(word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([word]) == 2

    assert "`make up`" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_clients_go_where_they_are_told_else_where_the_service_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ServiceSettings(at="inference:8100").reached_at == "inference:8100"
    assert ServiceSettings(port=8101).reached_at == "127.0.0.1:8101"
    assert ServiceSettings(host="0.0.0.0").reached_at == "127.0.0.1:8100"
    monkeypatch.setenv("LAB_SERVICE__AT", "http://inference")
    with pytest.raises(SettingsWrong, match="LAB_SERVICE__AT"):
        load_settings()
