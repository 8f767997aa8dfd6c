"""A broker that may be killed is killed by its pid; without one, what needs it is named and not passed over."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from mlops_lab.chaos.broker import Broker
from mlops_lab.chaos.cannot_prove import CannotProve
from mlops_lab.chaos.catalogue import CATALOGUE
from mlops_lab.chaos.fault import Finding, Result, Size
from mlops_lab.chaos.replica import free_port
from mlops_lab.chaos.runner import require_tools
from mlops_lab.chaos.world import EMBEDDED
from mlops_lab.cli.main import run
from mlops_lab.settings import Settings, StoreSettings, TrackingSettings

LISTENS = """
import socket, sys
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("listening", flush=True)
sys.stdin.read()  # it ends with the test
"""


def a_broker(tmp_path: Path, port: int, command: str = "true") -> Broker:
    return Broker(f"127.0.0.1:{port}", command, tmp_path / "pid", {})


def test_a_broker_is_killed_by_its_pid_and_has_to_be_gone_with_that(tmp_path: Path) -> None:
    port, other = free_port(), free_port()
    with (
        subprocess.Popen([sys.executable, "-c", LISTENS, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as mine,
        subprocess.Popen([sys.executable, "-c", LISTENS, str(other)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as theirs,
    ):
        for process in (mine, theirs):
            assert process.stdout is not None
            process.stdout.readline()
        (tmp_path / "pid").write_text(f"{mine.pid}\n")
        broker = a_broker(tmp_path, port)
        assert broker.start() < 10
        broker.kill()
        assert mine.wait(10) == -9
        assert not broker.answers()
        with pytest.raises(CannotProve, match="nobody answers"):
            broker.start()
        with pytest.raises(CannotProve, match="left with 3"):
            a_broker(tmp_path, other, "exit 3").start()
        theirs.kill()
    (tmp_path / "pid").unlink()
    with pytest.raises(CannotProve, match="does not say which process"):
        a_broker(tmp_path, port).kill()


def test_a_process_that_is_not_the_broker_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlops_lab.chaos.broker._GONE_S", 0.2)
    port = free_port()
    with subprocess.Popen([sys.executable, "-c", LISTENS, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as listens:
        assert listens.stdout is not None
        listens.stdout.readline()
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as bystander:
            (tmp_path / "pid").write_text(str(bystander.pid))
            with pytest.raises(CannotProve, match="still answers"):
                a_broker(tmp_path, port).kill()
        listens.kill()


def test_a_fault_that_kills_a_broker_is_never_skipped(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CannotProve, match=r"E1 .* needs a broker") as raised:
        require_tools([CATALOGUE["E1"]], None)
    assert "--broker-pid FILE" in raised.value.next_step
    assert run(["chaos", "E1"]) == 2
    assert "LAB_EVENTS__KAFKA" in capsys.readouterr().err
    assert run(["chaos", "E5", "--broker", "true"]) == 2


def test_without_a_broker_the_others_are_tried_and_the_rest_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def prove(faults: Sequence[Any], world: Any, seed: int, size: Size) -> Iterator[Result]:
        return (Result(fault.id, size, seed, 0.1, Finding("tried")) for fault in faults)

    monkeypatch.setattr("mlops_lab.chaos.runner.require_tools", lambda *_: None)
    monkeypatch.setattr("mlops_lab.chaos.runner.prove", prove)
    assert run(["chaos"]) == 0
    said = capsys.readouterr().out
    assert "Left out, for want of a broker that may be killed: E1, E2, E3, E4." in said
    without = [name for name, fault in CATALOGUE.items() if not fault.kills_broker]
    assert f"All {len(without)} promises held." in said
    assert "E5  held" in said


@pytest.mark.parametrize("words", [[], ["--broker", "true", "--broker-pid", "pid"]], ids=["alone", "with a broker"])
def test_whatever_the_environment_points_to_no_fault_is_tried_on_it(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scratch home whose ledger is on the server of somebody's platform would be that platform's ledger."""
    variables = {
        "LAB_STORES__DATABASE": "postgresql://somebody@db/lab",
        "LAB_STORES__TABLES": "s3://tables/lab",
        "LAB_TRACKING__URI": "http://mlflow:5000",
    }
    met: list[Settings] = []

    def prove(faults: Sequence[Any], world: Any, seed: int, size: Size) -> Iterator[Result]:
        met.append(world.fresh(EMBEDDED).settings)
        return (Result(fault.id, size, seed, 0.1, Finding("tried")) for fault in faults)

    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("mlops_lab.chaos.runner.require_tools", lambda *_: None)
    monkeypatch.setattr("mlops_lab.chaos.runner.prove", prove)

    assert run(["chaos", "F6", *words]) == 0

    (settings,) = met
    assert (settings.stores, settings.tracking) == (StoreSettings(), TrackingSettings())
    assert {name: os.environ[name] for name in variables} == variables
