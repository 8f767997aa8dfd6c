"""The command line: a newcomer learns the loop from the help, a person gets sentences, a program gets one JSON document."""

import dataclasses
import json
import math
import os
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import click
import numpy as np
import pytest

from mlops_lab.cli import checks
from mlops_lab.cli.checks import Check, Health
from mlops_lab.cli.main import COMMANDS, LOOP, run
from mlops_lab.cli.output import Output
from mlops_lab.embedded import Service, State, Status, Supervisor
from mlops_lab.errors import NoChampion, SettingsWrong

FRAMEWORKS = {
    "deltalake",
    "evidently",
    "fastapi",
    "great_expectations",
    "matplotlib",
    "mlflow",
    "numpy",
    "pandas",
    "prefect",
    "pyarrow",
    "pydantic",
    "rich",
    "sklearn",
    "sqlalchemy",
}


@pytest.fixture
def replaced(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, click.Command], None]:
    """Put another body in the place of one command's module."""

    def replace(module: str, command: click.Command) -> None:
        stand_in = types.ModuleType(f"mlops_lab.cli.{module}")
        stand_in.__dict__["command"] = command
        monkeypatch.setitem(sys.modules, stand_in.__name__, stand_in)

    return replace


def a_failing_command(error: BaseException) -> click.Command:
    @click.command
    def command() -> None:
        raise error

    return command


def test_lab_alone_shows_the_loop_in_its_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    alone = capsys.readouterr().out
    assert run(["--help"]) == 0
    help_text = capsys.readouterr().out

    assert alone.strip() == help_text.strip()
    shown = [line.split()[0] for line in help_text.splitlines() if line.startswith("  ") and line.split()[0] in COMMANDS]
    assert shown == list(COMMANDS)
    positions = [help_text.index(f"\n  {name} ") for name in ("ingest", "train", "judge", "promote", "replay", "watch", "rollback")]
    assert positions == sorted(positions)
    assert help_text.index("Start here") < help_text.index("lab demo ") < help_text.index("The loop, step by step")


def test_every_command_has_one_sentence_that_fits_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    run(["--help"])
    help_text = capsys.readouterr().out
    for name, entry in COMMANDS.items():
        assert entry.sentence.endswith(".")
        assert any(line.split(maxsplit=1) == [name, entry.sentence] for line in help_text.splitlines()), name


def test_the_commands_of_the_loop_are_all_there() -> None:
    wanted = "demo up down status ingest train judge promote shadow canary rollback watch policy replay break audit history gates log"
    wanted += " keys chaos doctor begin events features flows"
    assert sorted(COMMANDS) == sorted(wanted.split())
    assert len(COMMANDS) == sum(len(section) for section in LOOP.values())


def test_the_help_imports_no_framework_and_no_stage() -> None:
    """`lab --help` takes a tenth of a second because it imports nothing: not the frameworks, not the commands."""
    code = "import sys; from mlops_lab.cli.main import run; run(['--help']); print('\\n'.join(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stderr.split())
    assert not {name.partition(".")[0] for name in loaded} & FRAMEWORKS
    assert {name for name in loaded if name.startswith("mlops_lab.")} <= {
        "mlops_lab.cli",
        "mlops_lab.cli.main",
        "mlops_lab.cli.output",
        "mlops_lab.clock",
        "mlops_lab.errors",
    }


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_explains_itself_and_knows_json(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([name, "--help"]) == 0
    said = capsys.readouterr().out
    assert f"lab {name}" in said
    assert "--json" in said


def test_a_misspelt_command_gets_the_near_miss(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["promot"]) == 2
    heard = capsys.readouterr()
    assert heard.out == ""
    assert heard.err == "There is no command called 'promot'.\nNext: did you mean 'promote'?\n"


def test_a_misspelt_option_names_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--jsn"]) == 2
    assert "Next: see `lab doctor --help`." in capsys.readouterr().err


def test_an_error_of_ours_is_two_lines_without_a_traceback(
    replaced: Callable[[str, click.Command], None], capsys: pytest.CaptureFixture[str]
) -> None:
    replaced("judge", a_failing_command(NoChampion("Nothing was promoted yet.", "run `lab promote`.")))

    assert run(["judge"]) == NoChampion.exit_code

    heard = capsys.readouterr()
    assert (heard.out, heard.err) == ("", "Nothing was promoted yet.\nNext: run `lab promote`.\n")


@pytest.mark.parametrize("words", [["--json", "judge"], ["judge", "--json"]])
def test_with_json_an_error_is_a_document_too(
    words: list[str], replaced: Callable[[str, click.Command], None], capsys: pytest.CaptureFixture[str]
) -> None:
    replaced("judge", a_failing_command(NoChampion("Nothing was promoted yet.", "run `lab promote`.")))

    assert run(words) == NoChampion.exit_code

    assert json.loads(capsys.readouterr().out) == {"error": {"what": "Nothing was promoted yet.", "next": "run `lab promote`."}}


def test_with_json_a_wrong_call_is_a_document_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--json", "promot"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["next"] == "did you mean 'promote'?"


def test_ctrl_c_is_one_sentence_and_130(replaced: Callable[[str, click.Command], None], capsys: pytest.CaptureFixture[str]) -> None:
    replaced("replay", a_failing_command(KeyboardInterrupt()))

    assert run(["replay"]) == 130

    assert capsys.readouterr().err.strip().startswith("Stopped by Ctrl-C.")


def test_a_bug_keeps_its_traceback(replaced: Callable[[str, click.Command], None]) -> None:
    """Only what a reader can act on is put into two lines; a bug must not look like one."""
    replaced("judge", a_failing_command(ZeroDivisionError("a bug")))

    with pytest.raises(ZeroDivisionError):
        run(["judge"])


def test_a_reader_who_has_seen_enough_is_no_error(tmp_path: Path) -> None:
    done = subprocess.run(
        f"'{sys.executable}' -m mlops_lab.cli.main --help | head -1", shell=True, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("Usage: lab")
    assert done.stderr == ""


def test_a_command_says_everything_to_a_person_and_everything_to_a_program(capsys: pytest.CaptureFixture[str]) -> None:
    for as_json in (False, True):
        output = Output(as_json)
        output.say("Trained version 3.")
        output.table(["version", "auc"], [[3, 0.7712]])
        output.result({"version": 3, "auc": 0.7712})

    heard = capsys.readouterr()
    person, program = heard.out.split("{", 1)
    assert person.startswith("Trained version 3.\n")
    assert "0.7712" in person
    assert json.loads("{" + program) == {"version": 3, "auc": 0.7712}
    assert heard.err == "Trained version 3.\n"


def test_a_document_holds_only_what_json_knows(capsys: pytest.CaptureFixture[str]) -> None:
    @dataclasses.dataclass(frozen=True)
    class Row:
        state: State
        at: datetime

    data = {"row": Row(State.DEAD, datetime(2013, 4, 1, tzinfo=UTC)), "path": Path("a/b"), "share": math.nan}
    Output(as_json=True).result(data | {"count": np.int64(3), "mean": np.float64("inf"), "names": ("a", "b")})

    assert json.loads(capsys.readouterr().out) == {
        "row": {"state": "dead", "at": "2013-04-01T00:00:00Z"},
        "path": "a/b",
        "share": None,
        "count": 3,
        "mean": None,
        "names": ["a", "b"],
    }


class Shop:
    """A home with one service that does nothing, in the place of the platform's own."""

    def __init__(self, home: Path) -> None:
        ready = home / "worker.ready"
        program = f"import pathlib, time; pathlib.Path({str(ready)!r}).touch(); time.sleep(600)"
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


def test_the_entry_point_leaves_with_the_code() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mlops_lab.cli.main", "nonsense"], capture_output=True, text=True, check=False, env=os.environ
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
