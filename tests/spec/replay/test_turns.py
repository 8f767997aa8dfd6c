"""Who may let time go by in a home, where production begins, and traffic that goes on whatever happens beside it."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest

from mlops_lab.bootstrap import Lab
from mlops_lab.cli.main import run
from mlops_lab.cli.output import Output
from mlops_lab.cli.pace import Speed, Start
from mlops_lab.cli.traffic import play_forever
from mlops_lab.errors import EvidenceMissing, HomeInUse, NoChampion, ServiceNotReady, UsageError
from mlops_lab.monitoring.window import Window
from mlops_lab.replay.session import FIRST_WEEK, Session
from mlops_lab.replay.turn import Turn
from mlops_lab.settings import Settings

JUNE = Window.of_week("2013-W23")


# --- turns ----------------------------------------------------------------------------------------------------------------------------


def test_a_second_replay_is_told_at_once_that_it_is_not_its_turn(tmp_path: Path) -> None:
    with Turn(tmp_path).mine(), pytest.raises(HomeInUse, match="Another process replays"), Turn(tmp_path).mine():
        pass
    with Turn(tmp_path).mine():  # the first has let go
        pass


def test_traffic_is_asked_for_its_turn_and_takes_it_up_again_afterwards(tmp_path: Path) -> None:
    traffic, order = Turn(tmp_path, gives_way=True), []
    playing = threading.Event()

    def play() -> None:
        with traffic.mine():
            order.append("traffic")
            playing.set()
            while not traffic.wanted():
                time.sleep(0.02)
            order.append("stands aside")

    thread = threading.Thread(target=play)
    thread.start()
    assert playing.wait(5)
    with Turn(tmp_path).mine():
        order.append("person")
        with pytest.raises(HomeInUse), traffic.mine():
            pass
    thread.join(5)
    with traffic.mine():
        assert not traffic.wanted()

    assert order == ["traffic", "stands aside", "person"]


def test_traffic_that_does_not_stand_aside_is_named(tmp_path: Path) -> None:
    with (
        Turn(tmp_path, gives_way=True).mine(),
        pytest.raises(HomeInUse, match=r"did not stand aside within 0\.3 s"),
        Turn(tmp_path, patience_s=0.3).mine(),
    ):
        pass


def test_traffic_does_not_stand_aside_for_other_traffic(tmp_path: Path) -> None:
    first, second = Turn(tmp_path, gives_way=True), Turn(tmp_path, gives_way=True)
    began = time.monotonic()

    with first.mine(), pytest.raises(HomeInUse, match="Another process replays"), second.mine():
        pass

    assert time.monotonic() - began < 5


def test_a_replay_that_was_killed_leaves_the_turn_to_the_next(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from mlops_lab.replay.turn import Turn\n"
        f"with Turn(Path({str(tmp_path)!r})).mine(): print('mine', flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stdout.readline() == "mine\n"
    with pytest.raises(HomeInUse), Turn(tmp_path).mine():
        pass
    child.kill()
    child.wait()
    child.stdin.close()
    child.stdout.close()

    with Turn(tmp_path).mine():
        pass


def test_a_session_that_gives_way_stops_between_two_requests_and_lets_the_other_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beats: list[float] = []
    looked_twice = threading.Event()

    def beat() -> None:
        beats.append(time.monotonic())
        if len(beats) == 2:
            looked_twice.set()

    lab = Lab(Settings(home=tmp_path))
    monkeypatch.setitem(vars(lab), "ledger", SimpleNamespace(champion=lambda: None))
    session = Session(lab, lambda _: None, gives_way=True, beat=beat)
    stopped = threading.Event()
    playing = threading.Event()

    async def play(weeks: object) -> None:
        playing.set()
        await session._give_way(SimpleNamespace(stop=stopped.set))  # type: ignore[arg-type]

    monkeypatch.setattr(session, "_play", play)
    monkeypatch.setattr(session, "_timeline", lambda week: None)
    seen: list[bool] = []

    def person() -> None:
        assert playing.wait(5)
        assert looked_twice.wait(5)
        seen.append(stopped.is_set())
        with Turn(tmp_path, patience_s=10).mine():
            seen.append(stopped.is_set())

    thread = threading.Thread(target=person)
    thread.start()
    with pytest.raises(HomeInUse, match="asked for its turn"):
        session.play(1)
    thread.join(5)
    session.journal.close()

    assert seen == [False, True]
    assert len(beats) >= 2


# --- where production begins ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    made = Session(Lab(Settings(home=tmp_path)), lambda _: None)
    yield made
    made.journal.close()


def test_production_begins_in_april_unless_somebody_chose(session: Session) -> None:
    assert session.next_week() == FIRST_WEEK

    session.begin_with(JUNE)

    assert session.next_week() == JUNE
    assert session.reached() == JUNE.start


def test_a_beginning_survives_a_replay_that_died_in_its_first_week_and_may_be_said_again(session: Session) -> None:
    session.begin_with(JUNE)
    session.journal.begin()

    session.begin_with(JUNE)

    assert session.next_week() == JUNE


@pytest.mark.parametrize("begun", ["played", "interrupted", "chosen"])
def test_time_does_not_jump(begun: str, session: Session) -> None:
    if begun == "played":
        session.journal.flush(cursor=FIRST_WEEK.closes_at)
    elif begun == "interrupted":
        session.journal.begin()
    else:
        session.begin_with(JUNE.before())
    before = session.next_week()

    with pytest.raises(UsageError, match="time does not jump"):
        session.begin_with(JUNE)

    assert session.next_week() == before


def test_production_does_not_begin_in_the_history(session: Session) -> None:
    with pytest.raises(UsageError, match="choose a week from 2013-W14"):
        session.begin_with(FIRST_WEEK.before())


@pytest.mark.parametrize(
    ("text", "week"),
    [("june", "2013-W23"), ("Jun", "2013-W23"), ("2013-06", "2013-W23"), ("2013-W30", "2013-W30"), ("2013-06-05", "2013-W23")],
)
def test_a_beginning_is_a_month_a_week_or_a_day(text: str, week: str) -> None:
    assert Start().convert(text, None, None).id == week


@pytest.mark.parametrize("text", ["summer", "2013-W77", "2013-13-01", "ju"])
def test_what_is_no_beginning_is_said(text: str) -> None:
    with pytest.raises(click.BadParameter, match="write it like june"):
        Start().convert(text, None, None)


def test_a_speed_is_event_time_by_wall_time() -> None:
    assert (Speed().convert("2000x", None, None), Speed().convert("1.5", None, None)) == (2000.0, 1.5)
    for text in ("fast", "0x", "-2x", "2000y"):
        with pytest.raises(click.BadParameter, match="write it like 2000x"):
            Speed().convert(text, None, None)


@pytest.mark.parametrize("words", [["--speed", "10x", "--minute-s", "1"], ["--forever", "--step"]])
def test_two_wishes_that_exclude_each_other_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["replay", *words]) == 2
    assert "Next:" in capsys.readouterr().err


# --- traffic --------------------------------------------------------------------------------------------------------------------------


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
