"""Where production begins, said once, and how fast time goes by."""

from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from mlops_lab.bootstrap import Lab
from mlops_lab.cli.main import run
from mlops_lab.cli.pace import Speed, Start
from mlops_lab.errors import UsageError
from mlops_lab.monitoring.window import Window
from mlops_lab.replay.session import FIRST_WEEK, Session
from mlops_lab.settings import Settings

JUNE = Window.of_week("2013-W23")


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


@pytest.mark.parametrize("words", [["--speed", "10x", "--minute-s", "1"], ["--forever", "--step"], ["--forever", "--weeks", "3"]])
def test_two_wishes_that_exclude_each_other_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["replay", *words]) == 2
    assert "Next:" in capsys.readouterr().err
