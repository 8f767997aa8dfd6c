"""`lab up`, `lab status` and `lab down` tell the same story."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops_lab.cli.main import run
from mlops_lab.embedded import Service, Supervisor


class Shop:
    """A home with one service that does nothing, in the place of the platform's own."""

    def __init__(self, home: Path) -> None:
        ready = home / "worker.ready"
        program = f"import pathlib, signal; pathlib.Path({str(ready)!r}).touch(); signal.pause()"
        self.supervisor = Supervisor(home)
        self.services = [Service("worker", (sys.executable, "-c", program), "", ready, ready_s=30.0)]

    def supervised(self, replicas: int = 1) -> tuple[Supervisor, list[Service]]:
        return self.supervisor, self.services


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    made = Shop(tmp_path)
    for module in ("up", "down", "status"):
        monkeypatch.setattr(f"mlops_lab.cli.{module}.supervised", made.supervised)
    yield made
    made.supervisor.down()


def test_up_status_and_down_tell_the_same_story(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    def states(*words: str) -> list[str]:
        assert run([*words, "--json"]) == 0
        return [service["state"] for service in json.loads(capsys.readouterr().out)["services"]]

    assert states("status") == ["stopped"]
    assert states("up") == ["running"]
    assert states("up") == ["running"]
    assert states("status") == ["running"]
    assert run(["down", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["stopped"] == ["worker"]
    assert run(["down"]) == 0
    assert capsys.readouterr().out.startswith("Nothing runs in")
    assert states("status") == ["stopped"]


def test_status_says_what_to_do_about_a_stopped_service(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status"]) == 0
    assert "Next: `lab up` starts what is stopped." in capsys.readouterr().out
