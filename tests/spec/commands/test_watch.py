"""`lab watch`: weeks that are closed are decided once, and shown with what their labels say by now."""

import pytest

from cli_builders import Said, told
from feedback_builders import a_report
from mlops_lab.events import FEEDBACK
from pipeline_builders import SmallLab


def test_closed_weeks_are_decided_once_and_printed(lab: SmallLab, said: Said, capsys: pytest.CaptureFixture[str]) -> None:
    first, again = said("watch"), said("watch")

    assert first["new"] == ["2013-W07", "2013-W08", "2013-W09", "2013-W10"]
    assert [decision["outcome"] for decision in first["decisions"]][:2] == ["watch", "retrain"]
    assert again == first | {"new": []}
    assert said("watch", "2013-W08")["decision"] == first["decisions"][1]
    person = told(capsys, "watch", "2013-W08")
    assert "ended in 'retrain', decided as of 2013-02-25 12:00Z" in person
    assert "counts towards retraining yes" in person


def test_a_week_that_is_not_decided_or_is_none_is_said(lab: SmallLab, said: Said) -> None:
    assert "the last decided one is 2013-W10" in said("watch", "2013-W11", code=20)["error"]["next"]
    assert "write it like 2013-W14" in said("watch", "2013-11", code=2)["error"]["next"]


def test_a_week_is_shown_with_each_version_of_what_its_labels_say(lab: SmallLab, said: Said, capsys: pytest.CaptureFixture[str]) -> None:
    """The decision stands; a label that is corrected weeks later counts when somebody asks for it."""
    before = said("watch", "2013-W08")
    assert [one["version"] for one in before["versions"]] == [1]
    assert "was recorded" in told(capsys, "watch", "2013-W08", "--restate")
    correct(lab, "2013-W08-0050", 40.0)
    after = said("watch", "2013-W08", "--restate")

    first, second = after["versions"]
    assert after["decision"] == before["decision"]
    assert (first, first["version"], second["version"]) == (before["versions"][0], 1, 2)
    assert second["performance"]["base_rate"] > first["performance"]["base_rate"]
    assert f"2 2013-03-11 12:00Z {second['labels']}" in told(capsys, "watch", "2013-W08")
    assert said("watch")["restated"]["2013-W08"]["labels_digest"] == second["labels_digest"]
    assert "v2: " in told(capsys, "watch")
    assert "week restated 2013-W08 platform revision 2: " in told(capsys, "history")


def test_restating_wants_a_week(lab: SmallLab, said: Said) -> None:
    assert "`lab watch 2013-W14 --restate`" in said("watch", "--restate", code=2)["error"]["next"]


def test_outcomes_without_a_prediction_are_counted_and_listed(lab: SmallLab, said: Said, capsys: pytest.CaptureFixture[str]) -> None:
    assert said("log", "waiting") == {"at": "2013-03-11T12:00:00Z", "waiting": []}
    lab.bus.publish(FEEDBACK, [a_report(1), a_report(2, at="2013-03-11T11:00:00Z")])

    first, second = said("log", "waiting")["waiting"]
    assert (first["prediction_id"], first["overdue"], second["overdue"]) == ("p1", True, False)
    assert len(said("log", "waiting", "--overdue")["waiting"]) == 1
    assert "2 outcomes wait for their prediction at 2013-03-11 12:00Z, 1 of them overdue" in told(capsys, "log", "waiting")
    assert said("watch")["overdue_outcomes"] == 1
    assert "1 outcomes have waited for their prediction for more than a week" in told(capsys, "watch")
    assert "outcomes overdue until 2013-03-11 12:00Z" in told(capsys, "history")


def correct(lab: SmallLab, parcel: str, hours_late: float) -> None:
    """A later word about a parcel's outcome, on the bus."""
    said = {"event_id": f"corrected-{parcel}", "prediction_id": f"answer-{parcel}", "revision": 9, "outcome": {"hours_late": hours_late}}
    lab.bus.publish(FEEDBACK, [a_report(0, **said, at="2013-03-10T00:00:00Z")])
