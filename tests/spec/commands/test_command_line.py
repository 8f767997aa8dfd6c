"""The command line: a newcomer learns the loop from the help, a person gets sentences, a program gets one JSON document."""

import dataclasses
import json
import math
import os
import subprocess
import sys
import types
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import click
import numpy as np
import pytest

from mlops_lab.cli.main import COMMANDS, LOOP, run
from mlops_lab.cli.output import Output
from mlops_lab.embedded import State
from mlops_lab.errors import NoChampion

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


@pytest.mark.parametrize(("profile", "stops"), [("embedded", "`lab down`"), ("inside", "`make down`")])
def test_ctrl_c_is_one_sentence_and_130_and_says_what_goes_on(
    profile: str,
    stops: str,
    replaced: Callable[[str, click.Command], None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LAB_PROFILE", profile)
    replaced("replay", a_failing_command(KeyboardInterrupt()))

    assert run(["replay"]) == 130

    said = capsys.readouterr().err.strip()
    assert said.startswith("Stopped by Ctrl-C.")
    assert stops in said


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


def test_the_entry_point_leaves_with_the_code() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mlops_lab.cli.main", "nonsense"], capture_output=True, text=True, check=False, env=os.environ
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
