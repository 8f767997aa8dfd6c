"""`lab replay` and `lab break`: weeks are played and told, a fault until the platform has answered it."""

import io
from collections.abc import Callable
from typing import Any

import pytest

from cli_builders import Said, told
from mlops_lab.registry.version import Role
from parcel_builders import week
from pipeline_builders import SmallLab


@pytest.mark.parametrize("words", [["replay"], ["break", "concept-shift"]])
def test_without_services_nothing_is_played_or_switched_on(words: list[str], lab: SmallLab, said: Said) -> None:
    error = said(*words, code=50)["error"]

    assert "inference" in error["what"]
    assert "`lab up`" in error["next"]
    assert said("break")["faults"][0]["since"] is None


class Stage:
    """A replay whose weeks are written beforehand: what the platform records in each."""

    def __init__(self, lab: SmallLab, weeks: list[list[str]]) -> None:
        self.lab, self.weeks, self.played = lab, weeks, 0

    def play(self, weeks: int) -> Any:
        from mlops_lab.replay.driver import Progress

        if self.played == len(self.weeks):
            raise KeyboardInterrupt
        window, ledger = week(11 + self.played), self.lab.ledger
        for what in self.weeks[self.played]:
            if what == "swap":
                now = ledger.champion()
                ledger.assign(Role.CHAMPION, 1, replacing=now.id, kind="override", by="test", why="better", at=window.closes_at)
            else:
                ledger.record_decision(
                    window.id, {"outcome": what, "at": f"{window.closes_at.isoformat()}", "because": "so"}, window.closes_at, "p"
                )
        self.played += 1
        return Progress(window.closes_at, 10, 9, 0, 0.5)


@pytest.fixture
def staged(lab: SmallLab, monkeypatch: pytest.MonkeyPatch) -> Callable[[list[list[str]]], Stage]:
    def make(weeks: list[list[str]]) -> Stage:
        stage = Stage(lab, weeks)
        monkeypatch.setattr("mlops_lab.bootstrap.running.require_works", lambda home, name: None)
        monkeypatch.setattr("mlops_lab.replay.session.Session.play", lambda self, weeks: stage.play(weeks))
        return stage

    return make


def test_a_replay_tells_each_week_and_its_decision(
    staged: Callable[[list[list[str]]], Stage], said: Said, capsys: pytest.CaptureFixture[str]
) -> None:
    staged([["ok"], ["watch"], ["ok"]])

    assert [[line["what"] for line in played["happened"]] for played in said("replay", "--weeks", "2")["weeks"]] == [
        ["week ok"],
        ["week watch"],
    ]
    assert "week ok 2013-W13: so" in told(capsys, "replay", "--weeks", "1")


def test_step_by_step_waits_before_each_week(
    staged: Callable[[list[list[str]]], Stage], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = staged([["ok"], ["ok"]])
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))

    assert "Enter plays 2013-W11" in told(capsys, "replay", "--weeks", "2", "--step", code=130)
    assert stage.played == 1  # nobody pressed Enter a second time


@pytest.mark.parametrize(
    ("name", "weeks", "played", "code"),
    [
        ("unit-change", [["watch"], ["data_incident"], ["ok"]], 2, 0),
        ("unit-change", [["watch"]] * 6, 6, 1),
        ("concept-shift", [["watch"], ["retrain", "swap"], ["ok"]], 2, 0),
        ("concept-shift", [["retrain"], ["watch"], ["retrain", "swap"], ["ok"]], 3, 0),  # the first challenger was refused
        ("concept-shift", [["retrain"], *[["watch"]] * 5], 6, 0),
    ],
)
def test_a_fault_is_played_until_the_platform_has_answered_it(
    name: str, weeks: list[list[str]], played: int, code: int, staged: Callable[[list[list[str]]], Stage], said: Said
) -> None:
    stage = staged(weeks)
    found = said("break", name, code=code)

    assert (len(found["weeks"]), stage.played, found["met"]) == (played, played, code == 0)
    assert found["since"] == "2013-03-11T12:00:00Z"


def test_a_fault_whose_weeks_are_stopped_stays_on_and_says_so(
    staged: Callable[[list[list[str]]], Stage], capsys: pytest.CaptureFixture[str]
) -> None:
    staged([["watch"]])

    assert "The fault stays on. Next: `lab break --clear concept-shift` ends it." in told(capsys, "break", "concept-shift", code=130)


def test_a_fault_is_listed_started_and_ended(lab: SmallLab, said: Said, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setenv("LAB_HOME", str(lab.home))
    on = {fault["name"]: fault["since"] for fault in said("break")["faults"]}
    assert set(on.values()) == {None}

    assert said("break", "unit-change", "--no-replay")["since"] == "2013-03-11T12:00:00Z"
    assert said("break", "--list")["faults"] == said("break")["faults"]
    assert {f["name"]: f["since"] for f in said("break")["faults"]}["unit-change"] == "2013-03-11T12:00:00Z"
    assert said("break", "--clear")["cleared"] == ["unit-change"]
    assert "Nothing was on" in told(capsys, "break", "--clear")
    assert "did you mean 'unit-change'?" in told(capsys, "break", "unit-chnge", code=2)
    assert "Which of these?" in told(capsys, "break", "--no-replay", code=2)
