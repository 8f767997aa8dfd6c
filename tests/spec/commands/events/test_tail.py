"""`lab events tail`: what travels, in the order in which it came, and nothing of it as an order to the terminal."""

import json
import sqlite3
import subprocess
import sys

import pytest

from cli_builders import Said, Told
from departure_builders import departure, work_on
from mlops_lab.bootstrap import Lab
from mlops_lab.cli.main import run
from mlops_lab.events import OBSERVATIONS, Message


def test_the_newest_events_are_shown_one_a_line_oldest_first(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    lab.bus.publish(OBSERVATIONS, [departure(minute) for minute in range(30)])

    assert run(["events", "tail", OBSERVATIONS, "--limit", "2"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.split()[:6] == ["2013-07-01", "12:28Z", "0/29", "FlightDeparted", "EWR", "[N1]"]
    assert "flight_id=f29 carrier=UA origin=EWR tail_number=N1 delay_min=29" in second


def test_events_are_shown_in_the_order_in_which_they_came_late_ones_too(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    lab.bus.publish(OBSERVATIONS, [departure(5), departure(1), departure(6)])

    run(["events", "tail", OBSERVATIONS])
    assert [line.split()[2] for line in capsys.readouterr().out.splitlines()] == ["0/1", "0/2", "0/3"]


def test_json_is_one_cloudevent_a_line(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    lab.bus.publish(OBSERVATIONS, [departure(1), departure(2)])

    for words in (["events", "tail", OBSERVATIONS, "--json"], ["--json", "events", "tail", OBSERVATIONS]):
        assert run(words) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [Message.from_cloudevent(json.loads(line)) for line in lines] == [departure(1), departure(2)]


def test_events_of_one_key_or_type_are_found_however_far_back(lab: Lab, told: Told) -> None:
    lab.bus.publish(OBSERVATIONS, [departure(0, tail="N7"), departure(1, tail="N7"), *(departure(minute) for minute in range(2, 1300))])

    assert "f0" in told("tail", OBSERVATIONS, "--key", "N7")
    assert "f1299" not in told("tail", OBSERVATIONS, "--key", "N7")
    lab.bus.publish(OBSERVATIONS, [departure(1300, tail="N7")])
    newest = told("tail", OBSERVATIONS, "--key", "N7", "--limit", "2")
    assert newest.index("f1 ") < newest.index("f1300 ")
    assert "f0 " not in newest
    assert "There are no events like that in 'observations'." in told("tail", OBSERVATIONS, "--type", "WeatherObserved")
    assert "did you mean 'WeatherObserved'?" in told("tail", OBSERVATIONS, "--type", "WeatherObserve", code=2)


def test_events_from_an_offset_on(lab: Lab, said: Said, told: Told, capsys: pytest.CaptureFixture[str]) -> None:
    lab.bus.publish(OBSERVATIONS, [departure(minute) for minute in range(9)])

    run(["events", "tail", OBSERVATIONS, "--from", "4", "--limit", "2"])
    assert [line.split()[2] for line in capsys.readouterr().out.splitlines()] == ["0/4", "0/5"]
    assert "There are no events in 'observations' from 99 on." in told("tail", OBSERVATIONS, "--from", "99")


def test_what_cannot_be_read_is_shown_in_its_place(lab: Lab, told: Told) -> None:
    lab.bus.publish(OBSERVATIONS, [departure(1), departure(2), departure(3)])
    with sqlite3.connect(lab.home / "bus.db") as db:
        db.execute("UPDATE message SET data = '{' WHERE id = 'departed-2'")

    text = told("tail", OBSERVATIONS)
    assert text.index("f1") < text.index("0/2 UNREADABLE") < text.index("f3")


def test_nothing_that_an_event_holds_reaches_the_terminal_as_an_order(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    evil = "\x1b[2J\x9b31m\r\nforged line"
    lab.bus.publish(OBSERVATIONS, [departure(1, subject=evil, id=evil, data={"note": evil, evil: 1})])
    work_on(lab)

    for words in (["tail", OBSERVATIONS], ["tail", "observations.dead"], ["dead"], ["dead", "--show", "observations/0/1"]):
        assert run(["events", *words]) == 0
        out = capsys.readouterr().out
        assert "forged line" in out or words == ["dead"]
        assert all(each.isprintable() for line in out.split("\n") for each in line)
        assert not any(line.startswith("forged") for line in out.split("\n"))


def test_a_topic_that_is_none_has_a_near_miss(told: Told) -> None:
    assert "did you mean 'observations'?" in told("tail", "observation", code=2)
    assert "did you mean 'observations.dead'?" in told("tail", "observations.daed", code=2)
    assert "did you mean 'feedback'?" in told("dead", "feedbak", code=2)
    assert "There are no events in 'answers'." in told("tail", "answers")


def test_following_goes_on_with_what_comes(lab: Lab) -> None:
    lab.bus.publish(OBSERVATIONS, [departure(1)])
    words = [sys.executable, "-c", "import sys; from mlops_lab.cli.main import run; run(sys.argv[1:])"]
    tail = subprocess.Popen([*words, "events", "tail", OBSERVATIONS, "--follow", "--json"], stdout=subprocess.PIPE, text=True)
    try:
        assert tail.stdout is not None
        assert json.loads(tail.stdout.readline())["id"] == "departed-1"
        lab.bus.publish(OBSERVATIONS, [departure(2)])
        assert json.loads(tail.stdout.readline())["id"] == "departed-2"
    finally:
        tail.terminate()
        tail.communicate()
