"""`lab events replay`: a reader is set back, never forward, and never while it runs."""

import pytest

from cli_builders import Said, Told
from departure_builders import departure
from mlops_lab.bootstrap import Lab
from mlops_lab.events import OBSERVATIONS


@pytest.mark.parametrize(
    ("place", "events"), [("start", 30), ("11", 20), ("2013-07-01 12:10Z", 20), ("2013-07-01T14:15+02:00", 15), ("1", 30)]
)
def test_a_reader_is_set_back_to_a_place(place: str, events: int, lab: Lab, told: Told, said: Said) -> None:
    lab.bus.publish(OBSERVATIONS, [departure(minute) for minute in range(30)])
    lab.bus.commit("features", OBSERVATIONS, 30)
    words = ["replay", OBSERVATIONS, "--group", "features", "--to", place]

    asked = told(*words)
    assert f"takes {events} events of 'observations' again" in asked
    assert "no fact counts twice. Nothing was changed. Next: the same with --yes." in asked
    assert lab.bus.committed("features", OBSERVATIONS) == 30
    assert said(*words, "--yes")["changed"] is True
    assert lab.bus.committed("features", OBSERVATIONS) == 30 - events


def test_going_back_to_a_time_misses_no_late_event(lab: Lab, said: Said) -> None:
    """From the first event of that time on everything comes again, also what came later and is older."""
    lab.bus.publish(OBSERVATIONS, [departure(minute) for minute in (1, 2, 8, 3, 9)])
    lab.bus.commit("features", OBSERVATIONS, 5)

    assert said("replay", OBSERVATIONS, "--group", "features", "--to", "2013-07-01 12:08", "--yes")["after"] == [2]


def test_nobody_is_set_forward(lab: Lab, told: Told) -> None:
    lab.bus.publish(OBSERVATIONS, [departure(minute) for minute in range(30)])
    lab.bus.commit("features", OBSERVATIONS, 5)

    assert "nothing is to be set back" in told("replay", OBSERVATIONS, "--group", "features", "--to", "20", "--yes")
    assert lab.bus.committed("features", OBSERVATIONS) == 5


def test_a_reader_that_runs_is_not_set_back(lab: Lab, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.bus.publish(OBSERVATIONS, [departure(1)])
    lab.bus.commit("features", OBSERVATIONS, 1)
    monkeypatch.setattr("mlops_lab.cli.events_replay.runs", lambda lab, name: name == "features")

    assert "`lab down`" in told("replay", OBSERVATIONS, "--group", "features", "--to", "start", "--yes", code=2)
    assert lab.bus.committed("features", OBSERVATIONS) == 1


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["observation", "--group", "features", "--to", "start"], "did you mean 'observations'?"),
        (["observations", "--group", "feature", "--to", "start"], "did you mean 'features'?"),
        (["observations", "--group", "features", "--to", "soon"], "write start, an offset"),
        (["answers", "--group", "features", "--to", "start"], "`lab events topics`"),
        (["observations", "--to", "start"], "Missing option '--group'"),
    ],
)
def test_a_wrong_call_says_what_is_right(words: list[str], hint: str, lab: Lab, told: Told) -> None:
    lab.bus.commit("features", OBSERVATIONS, 0)

    assert hint in told("replay", *words, code=2)
