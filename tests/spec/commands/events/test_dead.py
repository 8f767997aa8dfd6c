"""`lab events dead`: what lies among the dead letters, why, and how it comes back."""

import json
import sqlite3
from pathlib import Path

import pytest

from cli_builders import Said, Told
from departure_builders import AT, departure, work_on
from mlops_lab.bootstrap import Lab
from mlops_lab.events import OBSERVATIONS
from mlops_lab.events.dead import bury, dead_letters


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
