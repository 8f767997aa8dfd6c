"""Outcomes that are reported on the bus are in their table once, and a label that comes late corrects what was measured beside it."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from feedback_builders import REPORTED_AT, a_report, nonsense
from mlops_lab.bootstrap.founding import found
from mlops_lab.clock import iso
from mlops_lab.data.label import OUTCOMES, PATIENCE, Labelled, join
from mlops_lab.data.prediction import PREDICTIONS
from mlops_lab.errors import BusUnreachable, ProgressMoved, StoreUnreachable
from mlops_lab.events import FEEDBACK, Message
from mlops_lab.events.dead import dead_letters
from mlops_lab.pipelines import feedback
from mlops_lab.pipelines.feedback import GROUP, awaited, take_in_feedback
from mlops_lab.pipelines.overdue import flag_overdue, waiting
from mlops_lab.pipelines.ship import ship
from mlops_lab.registry.ledger import OVERDUE
from pipeline_builders import SmallLab
from shipping_builders import answers, write
from shipping_builders import feedback as feedback_frame

DIE = Path(__file__).parents[1] / "feedback_and_die.py"


@pytest.fixture
def lab(tmp_path: Path) -> SmallLab:
    lab = SmallLab(tmp_path / "home")
    found(lab)
    return lab


class Killed(BaseException):
    """What no handler catches."""


def report(lab: SmallLab, *messages: Message) -> None:
    """By somebody whose bus does not check what is published."""
    super(type(lab.bus), lab.bus).publish(FEEDBACK, messages)


def events(lab: SmallLab) -> list[str]:
    """Every row of the table, with repetitions."""
    lab.shipper  # noqa: B018  declares the table
    return sorted(lab.tables.read(OUTCOMES)["event_id"])


def labelled(lab: SmallLab) -> Labelled:
    lab.shipper  # noqa: B018
    return join(lab.tables.read(PREDICTIONS), lab.tables.read(OUTCOMES), REPORTED_AT + timedelta(days=60))


# --- Into the table, once -----------------------------------------------------------------------------------------------------------


def test_each_report_is_a_row_however_often_it_is_taken_in(lab: SmallLab) -> None:
    report(lab, a_report(1), a_report(2, revision=3, outcome={"hours_late": -0.5}))

    assert take_in_feedback(lab) == 2
    assert take_in_feedback(lab) == take_in_feedback(lab.again()) == 0
    lab.shipper  # noqa: B018
    row = lab.tables.read(OUTCOMES).set_index("event_id").loc["v2"]
    assert (row["prediction_id"], row["revision"], row["hours_late"]) == ("p2", 3, -0.5)
    assert (row["at"], row["received_at"]) == (REPORTED_AT + timedelta(minutes=2), lab.clock.now())


def test_those_that_come_by_http_and_by_the_bus_share_a_table(lab: SmallLab) -> None:
    write(lab.home, answers(1, 2), feedback_frame(1))
    report(lab, a_report(2))
    ship(lab)
    take_in_feedback(lab)

    assert events(lab) == ["v1", "v2"]
    assert len(labelled(lab).rows) == 2


def test_more_than_a_chunk_is_taken_in_chunk_by_chunk(lab: SmallLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feedback, "CHUNK", 3)
    report(lab, *map(a_report, range(8)))

    assert take_in_feedback(lab) == 8
    assert events(lab) == sorted(f"v{number}" for number in range(8))


def deaths(lab: SmallLab, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Callable[[], None]]]:
    """By name: ways to make it die before or after each of its effects."""

    def dying(owner: Any, name: str, after: bool) -> Callable[[], None]:
        def patch() -> None:
            real = getattr(owner, name)

            def call(*args: Any, **how: Any) -> None:
                if after:
                    real(*args, **how)
                raise Killed

            monkeypatch.setattr(owner, name, call)

        return patch

    for owner, name in ((lab.bus, "publish"), (lab.tables, "append"), (lab.bus, "commit")):
        yield f"before {name}", dying(owner, name, after=False)
        yield f"after {name}", dying(owner, name, after=True)


@pytest.mark.parametrize("number", range(6))
def test_a_death_before_or_after_any_effect_repeats_and_loses_nothing(lab: SmallLab, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """The effects: a dead letter, the rows with how far they go, the offset of the group."""
    monkeypatch.setattr(feedback, "CHUNK", 3)
    report(lab, a_report(1), nonsense(2), a_report(3), a_report(4))
    name, die = list(deaths(lab, monkeypatch))[number]
    die()
    with pytest.raises(Killed):
        take_in_feedback(lab)
    again = lab.again()
    take_in_feedback(again)

    assert events(again) == ["v1", "v3", "v4"], name
    assert len(dead_letters(again.bus, FEEDBACK)) == 1
    assert awaited(again) == 0


def test_what_is_killed_at_random_moments_gives_every_outcome_once(tmp_path: Path) -> None:
    """A real process, table and bus on disk, SIGKILL at random moments while outcomes are reported."""
    home = tmp_path / "home"
    run = subprocess.run([sys.executable, str(DIE), str(home), "12", "3"], capture_output=True, text=True, check=False, timeout=300)
    assert run.returncode == 0, run.stderr
    said = json.loads(run.stdout)
    lab = SmallLab(home)
    good = [number for number in range(said["reported"]) if number % 5 != 4]

    assert said["killed"] == 12
    assert events(lab) == sorted(f"v{number}" for number in good)
    assert len(dead_letters(lab.bus, FEEDBACK)) == said["reported"] - len(good)


def test_of_two_that_take_in_at_once_each_row_is_there_once(lab: SmallLab, monkeypatch: pytest.MonkeyPatch) -> None:
    report(lab, a_report(1), a_report(2))
    other, real = lab.again(), lab.tables.append

    def overtaken(*args: Any, **how: Any) -> int:
        monkeypatch.undo()
        take_in_feedback(other)
        return real(*args, **how)

    monkeypatch.setattr(lab.tables, "append", overtaken)

    take_in_feedback(lab)

    assert events(lab) == ["v1", "v2"]
    assert awaited(lab) == 0


def test_a_store_that_does_not_answer_is_asked_again_and_nothing_is_lost(lab: SmallLab, monkeypatch: pytest.MonkeyPatch) -> None:
    report(lab, a_report(1))
    with monkeypatch.context() as patched:
        down = StoreUnreachable.at("the store", "it is down")
        patched.setattr(lab.tables, "append", lambda *_, **__: (_ for _ in ()).throw(down))
        with pytest.raises(StoreUnreachable):
            take_in_feedback(lab)
    assert awaited(lab) == 1

    assert take_in_feedback(lab) == 1
    assert awaited(lab) == 0


def test_a_dead_letter_that_cannot_be_written_holds_the_partition(lab: SmallLab, monkeypatch: pytest.MonkeyPatch) -> None:
    """It must not be passed over: nobody would ever see it."""
    report(lab, nonsense(1), a_report(2))
    with monkeypatch.context() as patched:
        down = BusUnreachable.at("the bus", "it is down")
        patched.setattr(lab.bus, "publish", lambda *_, **__: (_ for _ in ()).throw(down))
        with pytest.raises(BusUnreachable):
            take_in_feedback(lab)
    assert events(lab) == []

    assert take_in_feedback(lab) == 1
    assert [lying.letter.offset for lying in dead_letters(lab.bus, FEEDBACK)] == [1]


def test_the_tables_progress_decides_and_not_the_groups(lab: SmallLab) -> None:
    """Tables that were put back from a copy get what they lack, although the group has been further."""
    report(lab, a_report(1))
    lab.bus.commit(GROUP, FEEDBACK, 1)

    assert take_in_feedback(lab) == 1


def test_a_group_that_lags_behind_the_table_is_brought_up(lab: SmallLab) -> None:
    report(lab, a_report(1))
    take_in_feedback(lab)
    lab.bus.commit(GROUP, FEEDBACK, 0)

    assert take_in_feedback(lab) == 0
    assert awaited(lab) == 0


def test_a_bus_that_was_made_anew_is_taken_in_from_its_beginning(lab: SmallLab) -> None:
    """Its offsets are those of other messages."""
    report(lab, a_report(1), a_report(2))
    take_in_feedback(lab)
    lab.bus.close()
    for file in lab.home.glob("bus.db*"):
        file.unlink()
    again = lab.again()
    report(again, a_report(3))

    assert take_in_feedback(again) == 1
    assert events(again) == ["v1", "v2", "v3"]


# --- What is no outcome -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"data": {"prediction_id": "p1"}}, "malformed_data"),
        ({"type": "OutcomeGuessed"}, "unknown_type"),
        ({"type": "ClockReached", "data": {}, "subject": "clock", "partition_key": ""}, "wrong_topic"),
        ({"version": 9}, "unknown_version"),
        ({"partition_key": "somebody-else"}, "wrong_key"),
        ({"at": REPORTED_AT.replace(year=2099)}, "from_the_future"),
    ],
)
def test_what_is_no_outcome_is_a_dead_letter_and_those_behind_it_are_taken_in(lab: SmallLab, wrong: dict[str, Any], reason: str) -> None:
    report(lab, a_report(0), replace(a_report(1), **wrong), a_report(2))

    assert take_in_feedback(lab) == 2
    assert events(lab) == ["v0", "v2"]
    (lying,) = dead_letters(lab.bus, FEEDBACK)
    assert (lying.letter.reason, lying.letter.offset) == (reason, 2)


def test_a_number_that_the_table_cannot_hold_costs_only_its_own_report(lab: SmallLab, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order for its type, and refused by the table: the halves find it among many."""
    monkeypatch.setattr(type(lab.event_types), "checked", lambda self, message, topic, now=None: message)
    report(lab, *map(a_report, range(9)), nonsense(9), *map(a_report, range(10, 15)))

    assert take_in_feedback(lab) == 14
    assert [lying.letter.offset for lying in dead_letters(lab.bus, FEEDBACK)] == [10]


def test_what_cannot_be_read_at_all_is_a_dead_letter(lab: SmallLab) -> None:
    import sqlite3

    report(lab, a_report(1), a_report(2), a_report(3))
    with sqlite3.connect(lab.home / "bus.db") as db:
        db.execute("UPDATE message SET data = '{half' WHERE topic = ? AND offset = 2", (FEEDBACK,))
    db.close()

    assert take_in_feedback(lab) == 2
    (lying,) = dead_letters(lab.bus, FEEDBACK)
    assert (lying.letter.reason, lying.letter.offset) == ("unreadable", 2)


# --- Outcomes before their predictions ----------------------------------------------------------------------------------------------


def test_an_outcome_waits_for_its_prediction_and_is_joined_whenever_that_turns_up(lab: SmallLab) -> None:
    report(lab, a_report(1), a_report(2))
    take_in_feedback(lab)
    assert list(labelled(lab).waiting["prediction_id"]) == ["p1", "p2"]
    write(lab.home, answers(1))
    ship(lab)

    found = labelled(lab)
    assert list(found.rows["prediction_id"]) == ["p1"]
    assert list(found.waiting["prediction_id"]) == ["p2"]


def test_which_outcome_counts_does_not_depend_on_which_way_and_in_which_order_they_came(lab: SmallLab, tmp_path: Path) -> None:
    late, right = a_report(1), a_report(1, event_id="v1-corrected", revision=1, outcome={"hours_late": -1.0})
    digests = []
    for number, order in enumerate(([late, right], [right, late], [right, late, replace(late, id="again")])):
        home = SmallLab(tmp_path / f"home-{number}")
        found(home)
        write(home.home, answers(1))
        for message in order:
            report(home, message)
            take_in_feedback(home)
        ship(home)
        digests.append(labelled(home).content_digest)

    assert len(set(digests)) == 1
    assert labelled(home).rows["hours_late"].tolist() == [-1.0]


def test_outcomes_that_wait_for_too_long_are_told_once_and_stay(lab: SmallLab) -> None:
    write(lab.home, answers(1))
    report(lab, a_report(1), a_report(2), a_report(3))
    ship(lab)
    take_in_feedback(lab)
    early, late = REPORTED_AT + PATIENCE, REPORTED_AT + PATIENCE + timedelta(hours=1)

    assert flag_overdue(early, lab) == 0
    assert flag_overdue(late, lab) == 2
    assert flag_overdue(late, lab) == flag_overdue(late + timedelta(days=3), lab) == flag_overdue(late, lab.again()) == 0
    (fact,) = lab.ledger.facts(OVERDUE)
    assert (fact.body["count"], fact.body["event_ids"], fact.body["prediction_ids"]) == (2, ["v2", "v3"], ["p2", "p3"])
    assert lab.ledger.unaccounted() == []


def test_each_process_looks_at_all_outcomes_first_and_at_new_ones_later(lab: SmallLab) -> None:
    """Also at those that were received long after they were due."""
    report(lab, a_report(1))
    take_in_feedback(lab)
    assert flag_overdue(REPORTED_AT + timedelta(days=60), lab) == 1
    report(lab, a_report(2), a_report(3, at=iso(REPORTED_AT + timedelta(days=55))))
    take_in_feedback(lab)

    assert flag_overdue(REPORTED_AT + timedelta(days=67), lab) == 2
    assert flag_overdue(REPORTED_AT + timedelta(days=67), lab.again()) == 0


def test_an_overdue_outcome_is_joined_all_the_same(lab: SmallLab) -> None:
    report(lab, a_report(2))
    take_in_feedback(lab)
    late = REPORTED_AT + PATIENCE + timedelta(hours=1)
    flag_overdue(late, lab)
    assert waiting(lab, late)["overdue"].tolist() == [True]
    write(lab.home, answers(2))
    ship(lab)

    assert waiting(lab, late).empty
    assert list(labelled(lab).rows["prediction_id"]) == ["p2"]


def test_an_answer_of_long_ago_is_no_unknown_one(lab: SmallLab) -> None:
    """The quick look goes back five days behind the outcome; what it does not find is looked for everywhere."""
    write(lab.home, answers(1))
    report(lab, a_report(1, at=iso(REPORTED_AT + timedelta(days=40))))
    ship(lab)
    take_in_feedback(lab)

    assert flag_overdue(REPORTED_AT + timedelta(days=50), lab) == 0
    assert waiting(lab, REPORTED_AT + timedelta(days=50)).empty


def test_who_waits_is_told_with_what_is_not_overdue_yet(lab: SmallLab) -> None:
    report(lab, a_report(1), a_report(2, at=iso(REPORTED_AT + timedelta(days=5))))
    take_in_feedback(lab)
    found: pd.DataFrame = waiting(lab, REPORTED_AT + PATIENCE + timedelta(days=1))

    assert list(zip(found["event_id"], found["overdue"], strict=True)) == [("v1", True), ("v2", False)]


def test_progress_that_moved_is_looked_up_again(lab: SmallLab) -> None:
    """The intake believes the table and not its memory."""
    report(lab, a_report(1))
    take_in_feedback(lab)
    intake, name = lab.reported, f"{FEEDBACK}@{lab.bus.log_id(FEEDBACK)}/0"
    other = lab.again().reported
    other.append(name, [], 5, lab.clock.now())

    with pytest.raises(ProgressMoved):
        intake.append(name, [], 7, lab.clock.now())
    assert intake.position(name) == 5
