"""`lab features show` puts one question under the glass; `lab features check` says whether answers saw what training would see."""

from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

import cli_builders
from cli_builders import Said, told
from mlops_lab.bootstrap.founding import found
from mlops_lab.events import REFERENCES, SCHEDULE
from mlops_lab.features.rows import Progress, Reading, RowRef
from mlops_lab.flights import messages
from mlops_lab.flights.facts import DEPARTED
from mlops_lab.flights.source import Year
from mlops_lab.flights.timeline import PLANNED_AHEAD, Timeline
from parity_builders import Answering

MONDAY = datetime(2013, 4, 1, tzinfo=UTC)
NOON = MONDAY + timedelta(hours=16)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def made(tmp_path: Path, flight_data: Path, year: Year, monkeypatch: pytest.MonkeyPatch) -> Answering:
    """A home in which half an hour of flights was asked about, that of its last departure being told half an hour late."""
    made = Answering(tmp_path / "home", flight_data)
    found(made.lab)
    timeline = Timeline(year, seed=7)
    made.publish(messages.aircraft(year.aircraft, MONDAY), REFERENCES)
    made.publish(timeline.warm_up(NOON))
    plans = timeline.steps(NOON - PLANNED_AHEAD, NOON, questions=False, plans=True)
    made.lab.bus.publish(SCHEDULE, [plan for step in plans for plan in step.plans])
    late = []
    for step in timeline.steps(NOON, NOON + 30 * MINUTE):
        told = [one for one in step.facts if not (one.type == DEPARTED and one.subject == "EWR" and step.at <= NOON + 10 * MINUTE)]
        late += [one for one in step.facts if one not in told]
        made.publish(told)
        made.answer(step.questions)
    made.publish(late[:1])
    made.lab.bus.publish("observations", late[1:])
    monkeypatch.setattr("mlops_lab.bootstrap.Lab", lambda settings: made.lab)
    return made


@pytest.fixture
def said(made: Answering, capsys: pytest.CaptureFixture[str]) -> Said:
    return partial(cli_builders.said, capsys, "features")


def asked(made: Answering, origin: str, since: datetime) -> str:
    """The first flight of an airport that was asked about from a moment on."""
    return next(ask.entity for ask, _ in made.answers if ask.fields["origin"] == origin and ask.moment >= since)


def test_an_answer_that_saw_what_training_sees_shows_no_difference(made: Answering, said: Said, capsys: pytest.CaptureFixture[str]) -> None:
    made.record()
    flight = asked(made, "LGA", NOON)
    shown = said("show", flight)

    assert shown["served"]["values"] == shown["offline"]["values"]
    assert (shown["comparable"], shown["differing"], shown["late_facts"]) == (True, [], [])
    assert shown["served"]["prediction_id"] == f"of-{flight}"
    assert shown["served"]["ages_s"]["weather"] is not None
    assert (shown["offline"]["source"], shown["online"]["values"]) == ("bus", None)
    person = told(capsys, "features", "show", flight)
    assert f"prediction of-{flight}" in person
    assert "Online store: features are in the service's own process" in person
    assert "Age of the newest fact used: weather" in person


def test_a_difference_is_marked_with_the_facts_that_came_after_the_answer(
    made: Answering, said: Said, capsys: pytest.CaptureFixture[str]
) -> None:
    made.record()
    flight = asked(made, "EWR", NOON + 15 * MINUTE)
    shown = said("show", flight)

    assert "origin_delay_3h_min" in shown["differing"]
    assert shown["late_facts"]
    assert all(one["type"] == DEPARTED and NOON < datetime.fromisoformat(one["at"]) <= NOON + 10 * MINUTE for one in shown["late_facts"])
    person = told(capsys, "features", "show", flight)
    assert "served differs" in person
    assert "since these facts were published after the answer" in person
    assert shown["late_facts"][0]["id"] in person.replace(" ", "")


def test_another_moment_is_looked_at_and_not_compared(made: Answering, said: Said, capsys: pytest.CaptureFixture[str]) -> None:
    made.record()
    flight = asked(made, "EWR", NOON + 15 * MINUTE)
    at = (NOON - 2 * timedelta(hours=1)).isoformat()

    assert said("show", flight, "--at", at)["comparable"] is False
    assert said("show", flight, "--at", at)["differing"] == []
    assert "That is another moment" in told(capsys, "features", "show", flight, "--at", at)


def test_what_is_online_now_stands_beside_it(
    made: Answering, said: Said, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Held:
        def __init__(self) -> None:
            state = made.lab.use_case.row_state()
            for topic in (REFERENCES, "observations"):
                state.apply(one.message for one in made.lab.bus.read(topic, 0, limit=100_000))
            self.rows = state.rows()

        def read(self, wanted: list[RowRef]) -> Reading:
            return Reading([self.rows.get(ref) for ref in wanted], None)

        def progress(self) -> Progress | None:
            return None

    made.record()
    monkeypatch.setattr("mlops_lab.bootstrap.chosen.chosen", lambda settings: type("Parts", (), {"bus": "embedded", "store": "sqlite"}))
    monkeypatch.setattr("mlops_lab.bootstrap.row_reader.row_reader", lambda *_: (Held(), "here"))
    flight = asked(made, "EWR", NOON + 15 * MINUTE)
    shown = said("show", flight)

    assert shown["online"]["values"] == shown["offline"]["values"] != shown["served"]["values"]
    assert "Online store: read now" in told(capsys, "features", "show", flight)


def test_a_flight_that_is_planned_and_was_not_asked_about_is_shown_as_it_would_be(made: Answering, said: Said, year: Year) -> None:
    made.record()
    row = next(year.flights[year.flights["scheduled_departure"] == NOON + timedelta(hours=3)].itertuples(index=False))
    made.lab.bus.publish(SCHEDULE, [messages.scheduled(row, NOON)])
    shown = said("show", row.flight_id)

    assert shown["served"] is None
    assert shown["moment"] == "2013-04-01T18:00:00Z"
    assert shown["offline"]["values"]["origin_delay_3h_min"] is not None


def test_a_flight_of_a_batch_is_computed_from_the_batches(made: Answering, said: Said, year: Year, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was published in those days."""
    january = {
        "flights": year.flights[year.flights["scheduled_departure"] < datetime(2013, 1, 4, tzinfo=UTC)],
        "weather": year.weather[year.weather["observed_at"] < datetime(2013, 1, 4, tzinfo=UTC)],
    }
    monkeypatch.setattr(made.lab.snapshots, "read", lambda table: january[table])
    made.record()
    flight = january["flights"]["flight_id"].iloc[1_500]
    shown = said("show", flight)

    assert shown["offline"]["source"] == "batches"
    assert shown["offline"]["facts"] > 1_000
    assert shown["offline"]["values"]["origin_delay_3h_min"] is not None
    assert shown["served"] is None


def test_an_unknown_flight_is_answered_with_the_near_misses(made: Answering, said: Said) -> None:
    made.record()
    flight = asked(made, "LGA", NOON)

    assert f"'{flight}'" in said("show", flight[:-1] + "X", code=2)["error"]["next"]


def test_before_anything_was_asked_it_says_how_to_begin(
    made: Answering, said: Said, tmp_path: Path, flight_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = Answering(tmp_path / "empty", flight_data).lab
    found(empty)
    monkeypatch.setattr("mlops_lab.bootstrap.Lab", lambda settings: empty)

    assert "`lab replay`" in said("show", "20130401T1330Z-UA1545-EWR", code=20)["error"]["next"]
    assert "`lab replay`" in said("check", code=20)["error"]["next"]


def test_a_check_names_each_difference_with_its_reason_and_wants_few(
    made: Answering, said: Said, capsys: pytest.CaptureFixture[str]
) -> None:
    made.record()
    checked = said("check", code=1)
    (week,) = checked["weeks"]

    assert (week["week"], week["unexplained"], week["holds"]) == ("2013-W14", 0, False)
    assert (week["late"], week["degraded"]) == (len(week["differing"]), 0)
    assert week["late"] > 3
    assert all(one["late_facts"] for one in week["differing"])
    person = told(capsys, "features", "check", "2013-W14", code=1)
    assert "Does not hold" in person
    assert "min late, after the answer" in person
    assert f"`lab features show {week['differing'][0]['flight']}` shows one in full" in person


def test_a_check_of_answers_that_saw_everything_holds(
    tmp_path: Path, flight_data: Path, year: Year, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = Answering(tmp_path / "home", flight_data)
    found(made.lab)
    made.publish(messages.aircraft(year.aircraft, MONDAY), REFERENCES)
    made.publish(Timeline(year, seed=7).warm_up(NOON))
    for step in Timeline(year, seed=7).steps(NOON, NOON + 30 * MINUTE):
        made.publish(step.facts)
        made.answer(step.questions)
    made.record()
    monkeypatch.setattr("mlops_lab.bootstrap.Lab", lambda settings: made.lab)

    assert f"Holds: {len(made.answers)} answers, 0 differ" in told(capsys, "features", "check", "--all")
    assert "Nobody was answered in 2013-W20" in told(capsys, "features", "check", "2013-W20", code=20)
    assert "name weeks, or give --all" in told(capsys, "features", "check", "2013-W14", "--all", code=2)


def test_a_difference_that_nothing_explains_is_said_so(made: Answering, said: Said, capsys: pytest.CaptureFixture[str]) -> None:
    flight = asked(made, "LGA", NOON)
    made.change([ask.entity for ask, _ in made.answers].index(flight), temperature_f=-40.0)
    made.record()
    (one,) = [each for each in said("check", code=1)["weeks"][0]["differing"] if each["flight"] == flight]

    assert one["because"] is None
    assert one["differences"][0]["served"] == -40.0
    assert "NOT EXPLAINED" in told(capsys, "features", "check", code=1)
    assert "no late fact explains it" in told(capsys, "features", "show", flight)


def test_an_answer_that_says_itself_that_it_was_behind_is_explained(made: Answering, said: Said) -> None:
    flight = asked(made, "LGA", NOON)
    made.change([ask.entity for ask, _ in made.answers].index(flight), temperature_f=None)
    made.record(state="stale")
    (one,) = [each for each in said("check", code=1)["weeks"][0]["differing"] if each["flight"] == flight]

    assert one["because"] == "the answer itself says that its features were stale"
