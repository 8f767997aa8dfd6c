"""A decided week whose labels change afterwards: what they say now is a new version beside the first, and the decision stands."""

import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from mlops_lab.clock import iso
from mlops_lab.events import CONTROL, FEEDBACK, Message, relay
from mlops_lab.monitoring.report import performance_to_record
from mlops_lab.monitoring.skill import performance
from mlops_lab.pipelines import train
from mlops_lab.pipelines.captured import days_of, labelled
from mlops_lab.pipelines.feedback import reported, take_in_feedback
from mlops_lab.pipelines.handlers import WATCHING, handle
from mlops_lab.pipelines.restate import restate, restate_recent, versions_of
from mlops_lab.registry.ledger import RESTATEMENT
from mlops_lab.training import export
from parcel_builders import MODEL, parcels, week
from pipeline_builders import SmallLab, copied, established, serve, training_flow

WEEK = week(7)
NEXT = week(8).closes_at
"""The tick behind the one at which the week was decided."""


@pytest.fixture(scope="module")
def decided(tmp_path_factory: pytest.TempPathFactory) -> SmallLab:
    """Week 7 is decided. The outcomes of its first ten parcels come a day after that. Copied for each test."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(train, "MIN_ROWS", 500)
        patched.setattr(export, "PARITY_ROWS", 300)
        patched.setitem(sys.modules, "mlops_lab.pipelines.on_prefect", SimpleNamespace(run_training_flow=training_flow))  # type: ignore[arg-type]
        lab = established(tmp_path_factory.mktemp("decided") / "home")
        rows = parcels(WEEK)
        rows.loc[:9, "delivered_at"] = WEEK.closes_at + timedelta(days=1)
        serve(lab, WEEK, rows=rows)
        tick(lab, WEEK.closes_at)
        return lab


@pytest.fixture
def lab(decided: SmallLab, tmp_path: Path) -> Iterator[SmallLab]:
    lab = copied(decided, tmp_path / "home")
    yield lab
    lab.bus.close()


def tick(lab: SmallLab, at: datetime) -> None:
    handle(Message("ClockReached", at, "clock", {}), lab, WATCHING)


def say(lab: SmallLab, number: int, hours_late: float, at: datetime, revision: int = 1) -> None:
    """Another outcome of a parcel of the week, on the bus."""
    parcel = parcels(WEEK)["parcel_id"][number]
    item = {"event_id": f"said-{parcel}-{revision}", "prediction_id": f"answer-{parcel}", "revision": revision, "at": iso(at)}
    lab.bus.publish(FEEDBACK, [reported(MODEL, item | {"outcome": {"hours_late": hours_late}})])


def told(lab: SmallLab) -> list[dict[str, object]]:
    relay(lab.outbox, lab.bus)
    return [dict(one.message.data) for one in lab.bus.read(CONTROL, 0, limit=10_000) if one.message.type == "PerformanceRestated"]


def test_labels_that_come_after_the_decision_make_a_second_version(lab: SmallLab) -> None:
    (decision,) = lab.ledger.decisions()
    tick(lab, NEXT)
    first, second = versions_of(decision, lab)
    (fact,) = lab.ledger.facts(RESTATEMENT)

    assert (first.version, second.version) == (1, 2)
    assert second.labels == first.labels + 10 == len(parcels(WEEK))
    assert second.labels_digest != first.labels_digest != ""
    assert fact.body["before"] == {
        "version": 1,
        "labels": first.labels,
        "labels_digest": first.labels_digest,
        "performance": first.performance,
    }
    assert fact.why.startswith(f"revision 2: {second.labels:,} labels instead of {first.labels:,}, AUC ")
    assert told(lab) == [{"window": WEEK.id, "version": 2, "model_version": 1, "labels": second.labels}]


def test_the_decision_and_what_it_rests_on_stay_as_they_were(lab: SmallLab) -> None:
    (before,) = lab.ledger.decisions()
    say(lab, 50, 30.0, NEXT - timedelta(days=1))
    tick(lab, NEXT)

    assert lab.ledger.decisions()[0] == before
    assert versions_of(before, lab)[0].performance == before["evidence"]["performance"]
    assert lab.trail.verify() is None
    assert lab.ledger.unaccounted() == []


def test_a_restated_version_is_what_the_tables_give(lab: SmallLab) -> None:
    tick(lab, NEXT)
    rows: pd.DataFrame = labelled(lab, WEEK.start, WEEK.end, NEXT).rows
    found = performance(rows["probability"], lab.use_case.labels(rows), days_of(rows), lab.seed)

    assert versions_of(lab.ledger.decisions()[0], lab)[1].performance == performance_to_record(found)


def test_a_correction_is_a_version_of_its_own(lab: SmallLab) -> None:
    """As many labels as before, and one of them says the contrary."""
    tick(lab, NEXT)
    (decision, *_) = lab.ledger.decisions()
    was_late = parcels(WEEK)["hours_late"][50] > 0
    say(lab, 50, -5.0 if was_late else 5.0, NEXT + timedelta(hours=1))
    take_in_feedback(lab)
    restate(decision, NEXT + timedelta(hours=2), lab)
    _, second, third = versions_of(decision, lab)

    assert third.labels == second.labels
    assert third.performance is not None
    assert second.performance is not None
    assert third.performance["brier"] != second.performance["brier"]
    assert third.performance["base_rate"] != second.performance["base_rate"]


def test_looking_again_changes_nothing_while_the_labels_are_the_same(lab: SmallLab) -> None:
    tick(lab, NEXT)
    before = len(lab.ledger.facts())
    tick(lab, NEXT)
    tick(lab.again(), NEXT)

    assert restate_recent(NEXT + timedelta(hours=1), lab) == []
    assert len(lab.ledger.facts()) == before
    assert len(told(lab)) == 1


def test_a_repeated_outcome_is_no_change(lab: SmallLab) -> None:
    tick(lab, NEXT)
    said = parcels(WEEK)["hours_late"][50]
    say(lab, 50, said, NEXT + timedelta(hours=1), revision=0)
    take_in_feedback(lab)

    assert restate_recent(NEXT + timedelta(hours=2), lab) == []


@pytest.mark.parametrize(("corrected", "versions"), [(False, [1, 2]), (True, [1, 2, 3])])
def test_two_who_restate_a_week_at_once_never_write_one_version_twice(
    lab: SmallLab, monkeypatch: pytest.MonkeyPatch, corrected: bool, versions: list[int]
) -> None:
    """The other one is first, and knows less where an outcome is corrected in between."""
    (decision,) = lab.ledger.decisions()
    other, record = lab.again(), lab.ledger.record

    def outrun(*arguments: Any, **named: Any) -> Any:
        monkeypatch.undo()
        assert restate(decision, NEXT, other) is not None
        return record(*arguments, **named)

    monkeypatch.setattr(lab.ledger, "record", outrun)
    if corrected:
        say(lab, 50, 30.0, NEXT + timedelta(hours=1))
        take_in_feedback(lab)

    new = restate(decision, NEXT + timedelta(hours=2), lab)

    assert [one.version for one in versions_of(decision, lab)] == versions
    assert (new is None) is not corrected
    assert [one["version"] for one in told(lab)] == versions[1:]
    assert lab.ledger.unaccounted() == []


def test_a_week_that_was_decided_long_ago_is_restated_when_asked_to(lab: SmallLab) -> None:
    long_after = WEEK.closes_at + timedelta(days=30)
    (decision,) = lab.ledger.decisions()

    assert restate_recent(long_after, lab) == []
    new = restate(decision, long_after, lab)
    assert new is not None
    assert new.version == 2


def test_a_decision_of_an_earlier_release_has_a_first_version_too(lab: SmallLab) -> None:
    """It names no digest, so the first look at it makes a second version."""
    (decision,) = lab.ledger.decisions()
    decision["evidence"].pop("labels_digest")

    assert versions_of(decision, lab)[0].labels_digest == ""
    new = restate(decision, WEEK.closes_at + timedelta(hours=1), lab)
    assert new is not None
    assert new.labels == decision["evidence"]["labels"]
