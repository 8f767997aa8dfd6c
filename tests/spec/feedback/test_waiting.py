"""Outcomes that come before their predictions, or weeks later: joined whenever both are there, and told when it takes too long."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pandas as pd

from feedback_builders import REPORTED_AT, a_report, labelled, report
from mlops_lab.bootstrap.founding import found
from mlops_lab.clock import iso
from mlops_lab.data.label import PATIENCE
from mlops_lab.pipelines.feedback import take_in_feedback
from mlops_lab.pipelines.overdue import flag_overdue, waiting
from mlops_lab.pipelines.ship import ship
from mlops_lab.registry.ledger import OVERDUE
from pipeline_builders import SmallLab
from shipping_builders import answers, write


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
