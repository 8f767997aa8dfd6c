"""What is no outcome is a dead letter, and those behind it are taken in."""

from dataclasses import replace
from typing import Any

import pytest

from feedback_builders import REPORTED_AT, a_report, events, nonsense, report
from mlops_lab.events import FEEDBACK
from mlops_lab.events.dead import dead_letters
from mlops_lab.pipelines.feedback import take_in_feedback
from pipeline_builders import SmallLab


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
