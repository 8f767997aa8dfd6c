"""`lab doctor`: each finding with what to do about it."""

import json
from pathlib import Path

import pytest

from mlops_lab.cli import checks
from mlops_lab.cli.checks import Check, Health
from mlops_lab.cli.main import run
from mlops_lab.embedded import Service, State, Status
from mlops_lab.errors import SettingsWrong


def a_status(state: State) -> Status:
    return Status("web", state, "127.0.0.1:1", 0, None, Path("logs/web.log"))


@pytest.mark.parametrize(
    ("check", "health", "next_step"),
    [
        (checks.python((3, 12)), Health.OK, ""),
        (checks.python((3, 10)), Health.FAIL, "make install PYTHON="),
        (checks.environment(["click"]), Health.OK, ""),
        (checks.environment(["click", "no_such_framework"]), Health.FAIL, "make install"),
        (checks.memory(8.0), Health.OK, ""),
        (checks.memory(2.0), Health.WARN, "close something"),
        (checks.memory(0.5), Health.FAIL, "close something"),
        (checks.data(Path("/nowhere"), ["flights.csv"]), Health.FAIL, "make data"),
        (checks.proxy({}), Health.OK, ""),
        (checks.proxy({"HTTP_PROXY": "proxy:3128"}), Health.WARN, "NO_PROXY"),
        (checks.proxy({"http_proxy": "proxy:3128", "no_proxy": "localhost, 127.0.0.1"}), Health.OK, ""),
        (checks.leftovers([a_status(State.RUNNING)]), Health.OK, ""),
        (checks.leftovers([a_status(State.DEAD)]), Health.WARN, "logs/web.log"),
    ],
)
def test_the_doctor_says_what_to_do_about_each_finding(check: Check, health: Health, next_step: str) -> None:
    assert check.health is health
    assert next_step in check.next
    assert bool(check.next) == (health is not Health.OK)


def test_the_doctor_looks_at_the_home_without_making_it(tmp_path: Path) -> None:
    home = tmp_path / "not" / "yet"
    assert checks.writable(home).health is Health.OK
    assert checks.disk(home).found
    assert list(tmp_path.iterdir()) == []
    assert checks.writable(Path("/proc")).health is Health.FAIL


def test_the_doctor_names_the_program_on_a_port() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as holder:
        address = f"127.0.0.1:{holder.getsockname()[1]}"
        service = Service("web", ("web",), address, Path("ready"), setting="LAB_SERVING__PORT")
        taken = checks.ports([service], [a_status(State.STOPPED)])
        own = checks.ports([service], [a_status(State.RUNNING)])
    free = checks.ports([service], [a_status(State.STOPPED)])

    assert [check.health for check in (*taken, *own, *free)] == [Health.FAIL, Health.OK, Health.OK]
    assert address in taken[0].found
    assert "LAB_SERVING__PORT" in taken[0].next


def test_the_doctor_leaves_with_1_only_when_something_will_not_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mlops_lab.cli.doctor._of_this_home", lambda: [Check("disk", Health.WARN, "2 GiB free", "free some space.")])
    assert run(["doctor"]) == 0
    assert "disk: free some space." in capsys.readouterr().out

    broken = SettingsWrong("LAB_HOEM is no setting.", "did you mean LAB_HOME?")
    monkeypatch.setattr("mlops_lab.cli.doctor._of_this_home", lambda: [Check("settings", Health.FAIL, broken.what, broken.next_step)])
    assert run(["doctor", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["healthy"] is False
    assert found["checks"][-1]["next"] == "did you mean LAB_HOME?"


def test_the_doctor_lists_every_setting_and_no_value(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("LAB_TOKEN", "do-not-print-this")
    assert run(["doctor", "--settings", "--json"]) == 0
    text = capsys.readouterr().out
    listed = {setting["name"]: setting["set"] for setting in json.loads(text)["settings"]}
    assert listed["LAB_TOKEN"] is True
    assert listed["LAB_HOME"] is False
    assert "do-not-print-this" not in text
