"""`lab events`, called as a person calls it: what travels, what lies among the dead letters and how it comes back, what a replay means."""

import io
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import cli_builders
from cli_builders import Said, Told
from mlops_lab.bootstrap import Lab
from mlops_lab.bootstrap.founding import found
from mlops_lab.cli.main import run
from mlops_lab.errors import LabError
from mlops_lab.events import CONTROL, OBSERVATIONS, Message
from mlops_lab.events.dead import bury, dead_letters
from mlops_lab.events.reading import everything
from mlops_lab.events.topics import TOPICS
from mlops_lab.settings import Settings

AT = datetime(2013, 7, 1, 12, tzinfo=UTC)


def departure(minute: int, tail: str = "N1", **changes: Any) -> Message:
    """A flight that left Newark so many minutes after noon."""
    data = {"flight_id": f"f{minute}", "carrier": "UA", "origin": "EWR", "tail_number": tail, "delay_min": minute}
    usual = Message("FlightDeparted", AT + timedelta(minutes=minute), "EWR", data, id=f"departed-{minute}", partition_key=tail)
    return replace(usual, **changes)


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("founded") / "home"
    found(Lab(Settings(home=home)))
    return home


@pytest.fixture
def lab(founded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """A home in which nothing has happened, which is the one that every command opens."""
    subprocess.run(["cp", "-r", founded, tmp_path / "home"], check=True)
    before = dict(os.environ)
    os.environ["LAB_HOME"] = str(tmp_path / "home")
    yield Lab(Settings(home=tmp_path / "home"))
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def told(lab: Lab, capsys: pytest.CaptureFixture[str]) -> Told:
    return partial(cli_builders.told, capsys, "events")


@pytest.fixture
def said(lab: Lab, capsys: pytest.CaptureFixture[str]) -> Said:
    return partial(cli_builders.said, capsys, "events")


def work_on(lab: Lab) -> None:
    """Bury what is refused, as a reader of observations would."""
    for each in everything(lab.bus, OBSERVATIONS):
        try:
            if isinstance(each, LabError):
                raise each
            lab.event_types.checked(each.message, OBSERVATIONS, lab.clock.now())
        except LabError as error:
            bury(lab.bus, OBSERVATIONS, each, error, tries=3, first_at=lab.clock.now(), at=lab.clock.now())


# --- topics -----------------------------------------------------------------------------------------------------------------------


def test_a_home_where_nothing_happened_says_how_to_begin_and_stays_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LAB_HOME", str(tmp_path / "new"))
    for words in (["topics"], ["tail", OBSERVATIONS], ["dead"], ["replay", OBSERVATIONS, "--group", "features", "--to", "start"]):
        assert run(["events", *words]) == 40
    assert "`lab ingest 2013-01`" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_topics_are_listed_before_anything_was_published(told: Told) -> None:
    text = told()

    assert all(name in text for name in TOPICS)
    assert "Next: `lab replay`" in text


def test_topics_say_how_much_came_what_is_dead_and_who_is_how_far_behind(lab: Lab, said: Said, told: Told) -> None:
    lab.bus.publish(OBSERVATIONS, [departure(1), departure(2, version=7), departure(3)])
    work_on(lab)
    lab.bus.commit("features", OBSERVATIONS, 1)

    row = next(row for row in said("topics")["topics"] if row["topic"] == OBSERVATIONS)
    assert (row["events"], row["dead"], row["readers"], row["partitions"]) == (3, 1, {"features": 2}, 1)
    assert "aircraft" in row["key"]
    assert f"Next: `lab events dead {OBSERVATIONS}`" in told("topics")


def test_a_reader_that_has_not_begun_is_behind_by_all(lab: Lab, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an online store there is no processor: the replicas read facts themselves, as no group."""
    lab.bus.publish(OBSERVATIONS, [departure(1), departure(2)])
    lab.bus.publish(CONTROL, [Message("ClockReached", AT, "clock", {})])
    lab.bus.commit("watcher", CONTROL, 1)

    rows = {row["topic"]: row["readers"] for row in said("topics")["topics"]}
    assert rows[CONTROL] == {"watcher": 0, "trainer": 1}
    assert rows[OBSERVATIONS] == {}
    monkeypatch.setenv("LAB_FEATURES__STORE", "sqlite")
    assert next(row["readers"] for row in said("topics")["topics"] if row["topic"] == OBSERVATIONS) == {"features": 2}


def test_shards_of_a_reader_are_told_one_by_one(lab: Lab, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_FEATURES__STORE", "sqlite")
    lab.bus.publish(OBSERVATIONS, [departure(1), departure(2)])
    lab.bus.commit("features-0-of-2", OBSERVATIONS, 2)
    lab.bus.commit("features-1-of-2", OBSERVATIONS, 1)

    row = next(row for row in said("topics")["topics"] if row["topic"] == OBSERVATIONS)
    assert row["readers"] == {"features-0-of-2": 0, "features-1-of-2": 1}
    assert "no fact counts twice" in said("replay", OBSERVATIONS, "--group", "features-1-of-2", "--to", "start")["again"]


def test_the_embedded_bus_has_no_topics_to_create(told: Told) -> None:
    assert "nothing to create" in told("topics", "--create")


# --- tail -------------------------------------------------------------------------------------------------------------------------


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


# --- dead -------------------------------------------------------------------------------------------------------------------------


def test_without_dead_letters_it_is_said(told: Told, said: Said) -> None:
    assert "every event so far could be worked on" in told("dead")
    assert said("dead", OBSERVATIONS) == {"letters": []}
    assert "There are no dead letters; nothing was done." in told("dead", "--retry", "all")


def test_dead_letters_are_listed_with_the_reason_and_shown_whole(lab: Lab, told: Told, said: Said) -> None:
    lab.bus.publish(OBSERVATIONS, [departure(1), departure(2, partition_key="N9")])
    work_on(lab)

    listed = told("dead", OBSERVATIONS)
    assert "observations/0/2" in listed
    assert "wrong_key its key is 'N9' and has to be 'N1'" in listed
    assert "Next: `lab events dead --show observations/0/2`" in listed
    shown = told("dead", "--show", "observations/0/2")
    assert '"partitionkey": "N9"' in shown
    assert "Tried 3 times" in shown
    [letter] = said("dead", "--show", "observations/0/2")["letters"]
    assert (letter["reason"], letter["field"], letter["event"]["id"]) == ("wrong_key", "partitionkey", "departed-2")
    assert "There is no dead letter called 'observations/0/1'" in told("dead", "--show", "observations/0/1", code=2)


def test_bytes_that_are_no_event_are_shown_as_they_are(lab: Lab, told: Told, said: Said) -> None:
    lab.bus.publish(OBSERVATIONS, [departure(1)])
    with sqlite3.connect(lab.home / "bus.db") as db:
        db.execute("UPDATE message SET data = ? WHERE id = 'departed-1'", (b"\xff\xfe",))
    work_on(lab)

    assert r"\xff\xfe" in told("dead", "--show", "observations/0/1")
    [letter] = said("dead")["letters"]
    assert (letter["event"], letter["encoding"]) == (None, "base64")
    assert "`lab events dead --retry observations/0/1 --repaired FILE`" in told("dead", "--retry", "observations/0/1", code=50)


def test_a_retry_that_would_be_refused_again_publishes_nothing(lab: Lab, told: Told, said: Said) -> None:
    lab.bus.publish(OBSERVATIONS, [departure(1, version=2), departure(2, partition_key="N9")])
    work_on(lab)

    assert "version 2 of FlightDeparted is not known" in told("dead", "--retry", "observations/0/1", code=20)
    found = said("dead", "--retry", "all")
    assert (found["published"], [each["letter"] for each in found["refused"]]) == ([], ["observations/0/1", "observations/0/2"])
    assert lab.bus.head(OBSERVATIONS) == 2


def test_a_retry_publishes_once_and_says_who_wanted_it(lab: Lab, told: Told, said: Said) -> None:
    """The event failed on its reader, which is repaired now."""
    lab.bus.publish(OBSERVATIONS, [departure(1), departure(2)])
    for delivery in lab.bus.read(OBSERVATIONS, 0):
        bury(lab.bus, OBSERVATIONS, delivery, ValueError("a fault of the reader"), tries=3, first_at=AT, at=AT)

    assert said("dead", "--retry", "observations/0/1")["published"] == [
        {"letter": "observations/0/1", "topic": OBSERVATIONS, "published": "retry-observations/0/1"}
    ]
    assert "nothing was done: 1." in told("dead", "--retry", "observations/0/1")
    assert "observations/0/2 is on 'observations' again" in told("dead", "--retry", "all")
    assert said("dead", "--retry", "all") == {"published": [], "refused": [], "before": 2}
    assert [delivery.message.data["flight_id"] for delivery in lab.bus.read(OBSERVATIONS, 2)] == ["f1", "f2"]
    assert [delivery.message.data["by"] for delivery in lab.bus.read("observations.dead", 2)] == ["operator", "operator"]
    assert next(row["dead"] for row in said("topics")["topics"] if row["topic"] == OBSERVATIONS) == 0


def test_a_repaired_event_is_published_in_its_place(lab: Lab, told: Told, tmp_path: Path) -> None:
    lab.bus.publish(OBSERVATIONS, [departure(1, partition_key="N9")])
    work_on(lab)
    file = tmp_path / "event.json"
    file.write_text(json.dumps(departure(1).to_cloudevent()))

    told("dead", "--retry", "observations/0/1", "--repaired", str(file))

    [_, again] = lab.bus.read(OBSERVATIONS, 0)
    assert again.message == departure(1, id="retry-observations/0/1")
    assert dead_letters(lab.bus, OBSERVATIONS)[0].retried_at is not None


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"specversion": "1.0"}', None])
def test_a_file_that_is_no_event_is_said(lab: Lab, told: Told, tmp_path: Path, content: str | None) -> None:
    lab.bus.publish(OBSERVATIONS, [departure(1, partition_key="N9")])
    work_on(lab)
    file = tmp_path / "event.json"
    if content is not None:
        file.write_text(content)

    assert "holds no CloudEvent" in told("dead", "--retry", "observations/0/1", "--repaired", str(file), code=2)
    assert "say which" in told("dead", "--retry", "all", "--repaired", str(file), code=2)


# --- replay -----------------------------------------------------------------------------------------------------------------------


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


# --- schemas ----------------------------------------------------------------------------------------------------------------------


def test_types_are_listed_and_one_is_printed(told: Told, said: Said, lab: Lab) -> None:
    assert {each["type"] for each in said("schemas")["types"]} == {each.name for each in lab.event_types}
    assert "FlightDeparted" in told("schemas")
    assert said("schemas", "FlightDeparted") == lab.event_types.named("FlightDeparted").json_schema()
    assert json.loads(told("schemas", "FlightDeparted")) == lab.event_types.named("FlightDeparted").json_schema()
    assert "did you mean 'FlightDeparted'?" in told("schemas", "FlightDeparture", code=2)


def test_schemas_are_written_where_it_is_said(lab: Lab, tmp_path: Path, told: Told, said: Said) -> None:
    assert len(said("schemas", "--write", str(tmp_path / "schemas"))["written"]) == len(list(lab.event_types))
    assert "nothing changed" in told("schemas", "--write", str(tmp_path / "schemas"))
    file = tmp_path / "schemas" / "FlightDeparted" / "1.json"
    file.write_text(file.read_text().replace('"delay_min"', '"delay_s"'))
    assert "data.delay_s is gone" in told("schemas", "--write", str(tmp_path / "schemas"), code=20)


def test_help_loads_no_framework() -> None:
    code = (
        "import sys; from mlops_lab.cli.main import run; "
        "[run(['events', *words, '--help']) for words in ([], ['tail'], ['dead'], ['replay'], ['topics'], ['schemas'])]; "
        "print('\\n'.join(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"confluent_kafka", "deltalake", "mlflow", "numpy", "pandas", "pyarrow", "pydantic", "sklearn", "sqlalchemy"}
    assert not heavy & {name.partition(".")[0] for name in io.StringIO(done.stderr).read().split()}
