"""Each window ends in one decision, and the loop closes."""

import pytest

from mlops_lab.bootstrap.identities import OPERATOR, PLATFORM
from mlops_lab.data.prediction import PREDICTIONS
from mlops_lab.demo.stores import Stores
from mlops_lab.errors import PromotionRefused
from mlops_lab.events import CONTROL, Message
from mlops_lab.pipelines.handlers import WATCHING, handle
from mlops_lab.pipelines.promote import promote
from mlops_lab.pipelines.ship import ship
from mlops_lab.pipelines.watch import measure, watch
from mlops_lab.registry.version import Role, State
from mlops_lab.retraining.decision import Outcome
from parcel_builders import parcels, week
from pipeline_builders import NOW, SmallLab, a_training, on_control, reach, serve, served, training_flow, work


def test_windows_are_decided_in_order_once_they_are_closed(lab: SmallLab) -> None:
    served(lab, 7, 8)
    at = week(8).end  # week 8 still waits for labels
    lab.bus.publish(CONTROL, [Message("ClockReached", at, "clock", {}, id="a-little-early")])
    work(lab)
    assert [decision["window"] for decision in lab.ledger.decisions()] == ["2013-W07"]
    reach(lab, 9)

    assert [(decision["window"], decision["outcome"]) for decision in lab.ledger.decisions()] == [
        ("2013-W07", "ok"),
        ("2013-W08", "ok"),
        ("2013-W09", "data_incident"),  # a week without any answer: nothing could be checked, so somebody has to look
    ]


def test_a_window_is_decided_once(lab: SmallLab) -> None:
    """What arrives afterwards does not change the decision that was taken."""
    served(lab, 7)
    first = watch(week(7), lab)
    told = len(on_control(lab, "WindowDecided"))
    serve(lab, week(7), rows=parcels(week(7), turned=True).assign(parcel_id=lambda rows: "more-" + rows["parcel_id"]))

    assert watch(week(7), lab) == first
    assert watch(week(7), lab.again()) == first
    assert len(lab.ledger.decisions()) == len(on_control(lab, "WindowDecided")) == told == 1


def test_before_the_first_answer_no_window_is_decided(lab: SmallLab) -> None:
    reach(lab, 9)

    assert lab.ledger.decisions() == []


def test_a_data_incident_pages_somebody_and_orders_nothing(lab: SmallLab) -> None:
    """Although the labels say that skill was lost as well."""
    broken = [parcels(week(number), turned=True).assign(weight_kg=5000.0) for number in (7, 8)]
    for number, rows in zip((7, 8), broken, strict=True):
        served(lab, number, rows=rows)
    reach(lab, 8)

    assert [decision["outcome"] for decision in lab.ledger.decisions()] == ["data_incident"] * 2
    assert [fact.subject for fact in lab.ledger.facts("page")] == ["2013-W07", "2013-W08"]
    assert [order.data["origin"] for order in on_control(lab, "TrainModel")] == []
    assert [version.number for version in lab.ledger.versions()] == [1]


def test_lost_skill_orders_one_training_however_often_it_is_told(lab: SmallLab) -> None:
    data = {"window": "2013-W08", "version": 1, "because": "unexplained loss"}
    lost = Message("SkillLost", week(8).closes_at, lab.model, data, id="SkillLost-2013-W08")
    for _ in range(3):
        handle(lost, lab, WATCHING)
    orders = on_control(lab, "TrainModel")

    assert [(order.id, order.at, order.data["origin"]) for order in orders] == [("train-retrain-2013-W08", lost.at, "retrain")]


def test_the_loop_closes(lab: SmallLab) -> None:
    """Two weeks that went another way: a challenger is trained, but only rows of the old kind lie before the judge's weeks, so it is
    refused; two weeks of patience later the next one has seen the new kind, wins on the newest weeks, and answers from then on."""
    for number in range(7, 12):
        served(lab, number, turned=True)
        reach(lab, number)
    decisions = {decision["window"]: decision["outcome"] for decision in lab.ledger.decisions()}
    promotions = [(line.version, line.kind, line.by) for line in lab.ledger.assignments()]

    # Week 9 lies in the cooldown. Week 11 is answered by the new champion: much better, although it learned from both kinds.
    assert decisions == {"2013-W07": "watch", "2013-W08": "retrain", "2013-W09": "watch", "2013-W10": "retrain", "2013-W11": "watch"}
    losses = [decision["evidence"]["performance"]["brier"] for decision in lab.ledger.decisions()]
    assert losses[-1] < losses[-2] - 0.05
    assert [lab.ledger.state(version.number) for version in lab.ledger.versions()] == [State.RETIRED, State.REFUSED, State.SERVING]
    assert promotions == [(1, "promotion", OPERATOR), (3, "promotion", PLATFORM)]
    approval = lab.ledger.facts("approval", "3")[-1]
    assert approval.by.startswith("policy:")
    assert lab.catalog.alias() == 3
    assert lab.ledger.unaccounted() == []
    assert lab.trail.verify() is None


def test_a_degraded_champion_by_override_is_rolled_back_and_barred(lab: SmallLab) -> None:
    """An operator forces a bad version: within one week it is seen, the one before answers again, and the bad one is out for good."""
    judgement, bad = training_flow(a_training(week(7).start, "drill", flip_share=0.8), lab)
    assert judgement.outcome == "keep"
    promote(bad.number, week(7).start, OPERATOR, lab, kind="override", why="I know better")
    served(lab, 7)
    reach(lab, 7)

    assert lab.ledger.decisions()[-1]["outcome"] == Outcome.ROLLBACK
    assert lab.ledger.champion().version == 1
    assert lab.ledger.state(bad.number) == State.BARRED
    assert on_control(lab, "TrainModel") == []
    with pytest.raises(PromotionRefused, match="barred"):
        promote(bad.number, week(8).start, OPERATOR, lab)


def test_the_watch_measures_the_champion_by_its_own_answers(lab: SmallLab) -> None:
    """A canary that is sure of the worst answers a third of the week: neither skill nor drift of the champion is touched by it."""
    serve(lab, week(7), canary=2)
    ship(lab)
    beside = measure(week(7), lab)

    served_by = lab.tables.read(PREDICTIONS)
    own = served_by[served_by["model_version"] == 1]
    assert served_by["variant"].value_counts().to_dict() == {"champion": len(own), "canary": len(served_by) - len(own)}
    assert len(own) < 0.7 * len(served_by)
    assert beside.performance is not None
    assert (beside.predictions, beside.labels, beside.performance.n) == (len(own), len(own), len(own))
    assert beside.drift is not None
    assert not beside.drift.prediction.drifted
    assert beside.drift.rows == len(own)
    assert beside.quality is not None
    assert [finding.rows for finding in beside.quality.findings] == [len(served_by)]  # what came in is checked whole


def test_a_canary_that_takes_the_traffic_is_measured_by_what_it_answered_before_too(lab: SmallLab) -> None:
    """The version counts, not the variant. That it took the traffic is shown by an answer as champion only."""
    _, second = training_flow(a_training(week(7).start, "retrain"), lab)
    serve(lab, week(7), canary=second.number)
    replacing = lab.ledger.champion().id
    lab.ledger.assign(
        Role.CHAMPION, second.number, replacing=replacing, kind="override", by=OPERATOR, why="it is better", at=week(7).closes_at
    )
    ship(lab)
    by_canary = int((lab.tables.read(PREDICTIONS)["variant"] == "canary").sum())

    assert measure(week(7), lab).predictions == measure(week(7), lab).labels == by_canary > 0
    assert Stores(lab).first_answer_by(second.number, NOW) is None
    assert Stores(lab).first_answer_by(1, NOW) == NOW
    assert sorted(Stores(lab).told) == sorted(lab.tables.read(PREDICTIONS)["prediction_id"])
