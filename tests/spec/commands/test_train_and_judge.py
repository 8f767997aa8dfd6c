"""`lab train` and `lab judge`: an order trains once, and a version is judged against the champion."""

import pytest

from cli_builders import Said, told
from mlops_lab.replay.session import JOURNAL
from parcel_builders import week
from pipeline_builders import SmallLab


def test_the_same_order_trains_once(lab: SmallLab, said: Said, capsys: pytest.CaptureFixture[str]) -> None:
    first = said("train", "--origin", "New routes")
    again = said("train", "--origin", "new routes!")

    assert (first["version"], first["new"], first["order"]) == (3, True, f"train-new-routes-{week(10).closes_at:%Y-%m-%dT%H%M%S}Z")
    assert (again["version"], again["new"]) == (3, False)
    assert first["metrics"]["roc_auc_low"] <= first["metrics"]["roc_auc"] <= first["metrics"]["roc_auc_high"]
    assert [fact.subject for fact in lab.ledger.facts("order_done")] == [first["order"]]
    person = told(capsys, "train", "--origin", "New routes")
    assert "nothing was trained" in person
    assert "Judgement of version 3" in person


def test_event_time_of_a_training_is_that_of_production_or_of_the_history(lab: SmallLab, said: Said) -> None:
    assert said("train")["at"] == "2013-03-11T12:00:00Z"
    (lab.home / JOURNAL).unlink()
    assert said("train", "--origin", "before production")["at"] == "2013-02-11T00:00:00Z"
    assert said("train", "--at", "2013-02-04", "--origin", "earlier")["at"] == "2013-02-04T00:00:00Z"


@pytest.mark.parametrize("words", ["retrain", "Drill", " - "])
def test_an_origin_that_the_platform_gives_itself_is_refused(words: str, lab: SmallLab, capsys: pytest.CaptureFixture[str]) -> None:
    assert "use a few words of your own" in told(capsys, "train", "--origin", words, code=2)
    assert len(lab.ledger.versions()) == 2


def test_a_training_that_fails_holds_back_no_retraining(lab: SmallLab, said: Said) -> None:
    """An order that was begun and never ended would count as running."""
    assert "are needed" in said("train", "--at", "2013-01-14", code=20)["error"]["what"]
    assert not lab.ledger.facts("order", "train-by-hand-2013-01-14T000000Z")


def test_the_champion_is_not_judged_against_itself(lab: SmallLab, said: Said) -> None:
    assert "compared with itself" in said("judge", "1", code=2)["error"]["what"]
    assert "choose one of: 1, 2" in said("judge", "9", code=30)["error"]["next"]
    assert lab.ledger.state(1) == "serving"


def test_a_judgement_can_be_made_anew(lab: SmallLab, said: Said, capsys: pytest.CaptureFixture[str]) -> None:
    found = said("judge", "2")

    assert (found["champion"], found["outcome"]) == (1, "promote")
    assert (lab.home / found["evidence"]["file"]).is_file()
    assert "Next: `lab promote 2`" in told(capsys, "judge", "2")
