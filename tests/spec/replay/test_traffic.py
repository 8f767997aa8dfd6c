"""Traffic that goes on whatever happens beside it."""

from pathlib import Path
from typing import Any

import pytest

from mlops_lab.cli.output import Output
from mlops_lab.cli.traffic import play_forever
from mlops_lab.errors import EvidenceMissing, HomeInUse, NoChampion, ServiceNotReady, UsageError
from mlops_lab.monitoring.window import Window

JUNE = Window.of_week("2013-W23")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    monkeypatch.setattr("mlops_lab.cli.traffic.open_lab", lambda: None)
    monkeypatch.setattr("mlops_lab.cli.traffic.RETRY_S", 0.0)
    return tmp_path


class Scripted:
    """In the place of a player: plays weeks, or fails, as it is written; ends with Ctrl-C where nothing more is written."""

    def __init__(self, script: list[Exception | str]) -> None:
        self.script, self.weeks, self.asked = script, [], []
        self.session = self.journal = self

    def __call__(self, output: Output, lab: object, minute_s: float, start: object, gives_way: bool, beat: Any) -> "Scripted":
        beat()
        self.asked.append((minute_s, start, gives_way))
        return self

    def __enter__(self) -> "Scripted":
        return self

    def __exit__(self, *_: object) -> None:
        """Keeps nothing."""

    def week(self) -> None:
        if not self.script:
            raise KeyboardInterrupt
        following = self.script.pop(0)
        if isinstance(following, Exception):
            raise following
        self.weeks.append(following)

    def reached(self) -> Any:
        return JUNE.start

    def next_week(self) -> Window:
        return JUNE

    def forget(self, before: Any) -> int:
        return 0


def test_traffic_waits_for_what_is_away_says_it_once_and_goes_on(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    away = ServiceNotReady("The inference service does not answer.", "look.")
    scripted = Scripted(
        [
            EvidenceMissing("Nothing yet.", "wait."),
            NoChampion("No champion.", "wait."),
            "W14",
            away,
            away,
            "W15",
            away,
            HomeInUse("Busy.", "wait."),
        ]
    )
    monkeypatch.setattr("mlops_lab.cli.traffic.Player", scripted)

    with pytest.raises(KeyboardInterrupt):
        play_forever(Output(), 0.03, JUNE)

    assert scripted.weeks == ["W14", "W15"]
    assert set(scripted.asked) == {(0.03, JUNE, True)}
    assert (home / "traffic.ready").is_file()
    said = capsys.readouterr().out
    assert "goes on          in 2013-W23" in said
    assert [said.count(words) for words in ("Nothing yet.", "No champion.", "does not answer.", "Busy.")] == [1, 1, 2, 1]


@pytest.mark.usefixtures("home")
def test_traffic_ends_with_what_nobody_else_repairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlops_lab.cli.traffic.Player", Scripted([UsageError("time does not jump", "go on.")]))

    with pytest.raises(UsageError):
        play_forever(Output(), 0.0)


@pytest.mark.usefixtures("home")
def test_traffic_that_began_elsewhere_says_so_and_goes_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    scripted = Scripted([UsageError("Production began with 2013-W14: time does not jump.", "go on."), "W15"])
    monkeypatch.setattr("mlops_lab.cli.traffic.Player", scripted)

    with pytest.raises(KeyboardInterrupt):
        play_forever(Output(), 0.0, JUNE)

    assert scripted.weeks == ["W15"]
    assert [start for _, start, _ in scripted.asked] == [JUNE, None]
    assert "time does not jump. Traffic goes on from there." in capsys.readouterr().out
