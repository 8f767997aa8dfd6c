"""Orders and facts have the effect of once, whoever dies; what was captured is what is trained on; each window ends in one decision."""

import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlops_lab.bootstrap.founding import found
from mlops_lab.bootstrap.identities import APPROVER, OPERATOR, PLATFORM
from mlops_lab.data.label import OUTCOMES
from mlops_lab.data.prediction import PREDICTIONS
from mlops_lab.demo.stores import Stores
from mlops_lab.errors import (
    BatchConflict,
    BatchUnreadable,
    LostTheRace,
    NotEnoughData,
    PromotionRefused,
    SnapshotRefused,
)
from mlops_lab.events import CONTROL, Message
from mlops_lab.events.dead import dead_letters
from mlops_lab.events.on_sqlite import SqliteBus
from mlops_lab.governance.approval import read_token
from mlops_lab.pipelines import handlers, train
from mlops_lab.pipelines.handlers import WATCHING, handle
from mlops_lab.pipelines.ingest import ingest
from mlops_lab.pipelines.judge import judge_version
from mlops_lab.pipelines.orders import PromoteModel
from mlops_lab.pipelines.promote import project_alias, promote
from mlops_lab.pipelines.ship import ship
from mlops_lab.pipelines.train import gather, held_out_rows
from mlops_lab.pipelines.watch import measure, watch
from mlops_lab.pipelines.worker import settled
from mlops_lab.registry.version import Role, State
from mlops_lab.replay.resume import answered_since
from mlops_lab.retraining.decision import Outcome
from mlops_lab.scoring.store import DirectoryStore
from mlops_lab.serving.prediction_log import PredictionLog
from mlops_lab.settings import Settings
from mlops_lab.training.rows import as_moment
from pipeline_builders import (
    NOW,
    PER_DAY,
    SmallLab,
    a_training,
    copied,
    deliver,
    established,
    give,
    on_control,
    parcels,
    reach,
    serve,
    served,
    small_numbers,
    training_flow,
    week,
    work,
)


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    with small_numbers():
        yield


@pytest.fixture(scope="module")
def first_home(tmp_path_factory: pytest.TempPathFactory) -> SmallLab:
    """Six weeks of history, version 1 is champion. Copied for each test."""
    return established(tmp_path_factory.mktemp("established") / "home")


@pytest.fixture
def lab(first_home: SmallLab, tmp_path: Path) -> SmallLab:
    return copied(first_home, tmp_path / "home")


@pytest.fixture
def empty(tmp_path: Path) -> SmallLab:
    """A new home."""
    lab = SmallLab(tmp_path / "new")
    found(lab)
    return lab


# --- Ingest -----------------------------------------------------------------------------------------------------------------------


def test_a_good_batch_is_taken_in_whole_and_told(empty: SmallLab) -> None:
    snapshot = ingest(deliver(empty, week(1)), empty)

    assert len(empty.snapshots.read("parcels")) == 7 * PER_DAY
    assert [known.batch for known in empty.snapshots.all()] == ["2013-W01"]
    assert empty.ledger.facts("gate_verdict")[-1].body["accepted"] is True
    assert [message.data["snapshot"] for message in on_control(empty, "SnapshotAccepted")] == [snapshot.id]


def test_a_refused_batch_waits_in_quarantine_and_no_row_of_it_counts(empty: SmallLab) -> None:
    bad = parcels(week(1)).assign(weight_kg=lambda rows: rows["weight_kg"] * 1000)
    order = deliver(empty, week(1), bad)

    with pytest.raises(SnapshotRefused, match="weight is between"):
        ingest(order, empty)
    refused = empty.quarantine.get("2013-W01")
    assert (refused.raw / "parcels.csv").read_bytes() == (Path(order.folder) / "parcels.csv").read_bytes()
    assert "weight is between 0 and 50 kg" in refused.report.read_text()
    assert empty.snapshots.read("parcels").empty
    assert empty.ledger.facts("gate_verdict")[-1].body["quarantine"] == str(refused.folder.relative_to(empty.home))
    assert [message.data["reasons"] for message in on_control(empty, "SnapshotRefused")] == [["weight is between 0 and 50 kg"]]


def test_a_batch_that_cannot_be_read_is_refused_in_the_same_way(empty: SmallLab) -> None:
    order = deliver(empty, week(1))
    (Path(order.folder) / "parcels.csv").write_bytes(b"")

    with pytest.raises(BatchUnreadable):
        ingest(order, empty)
    assert empty.quarantine.get("2013-W01").verdict["findings"][0]["expectation"] == "the batch can be read"
    assert len(on_control(empty, "SnapshotRefused")) == 1


def test_a_batch_that_is_not_there_is_refused_without_raw_files(empty: SmallLab) -> None:
    order = deliver(empty, week(1))
    shutil.rmtree(order.folder)

    with pytest.raises(BatchUnreadable):
        ingest(order, empty)
    assert not empty.quarantine.get("2013-W01").raw.exists()


def test_the_same_batch_again_changes_nothing(empty: SmallLab) -> None:
    order = deliver(empty, week(1))
    first = ingest(order, empty)
    before = (empty.tables.version("parcels"), len(empty.ledger.facts()), len(on_control(empty, "SnapshotAccepted")))

    assert ingest(order, empty) == first
    assert (empty.tables.version("parcels"), len(empty.ledger.facts()), len(on_control(empty, "SnapshotAccepted"))) == before


def test_the_same_refused_batch_again_changes_nothing(empty: SmallLab) -> None:
    order = deliver(empty, week(1), parcels(week(1)).assign(weight_kg=99.0))
    for _ in range(2):
        with pytest.raises(SnapshotRefused):
            ingest(order, empty)

    assert len(empty.quarantine.all()) == len(on_control(empty, "SnapshotRefused")) == len(empty.ledger.facts("gate_verdict")) == 1


def test_another_content_under_a_known_name_is_a_conflict(empty: SmallLab) -> None:
    ingest(deliver(empty, week(1)), empty)

    with pytest.raises(BatchConflict):
        ingest(deliver(empty, week(1), parcels(week(1)).head(100), folder="correction"), empty)
    assert len(empty.snapshots.read("parcels")) == 7 * PER_DAY


def test_a_repaired_batch_is_taken_in_after_the_bad_one_was_refused(empty: SmallLab) -> None:
    with pytest.raises(SnapshotRefused):
        ingest(deliver(empty, week(1), parcels(week(1)).assign(weight_kg=99.0), folder="bad"), empty)

    assert ingest(deliver(empty, week(1)), empty).batch == "2013-W01"


# --- What is trained on -----------------------------------------------------------------------------------------------------------

AT = week(11).start


def digest(lab: SmallLab) -> str:
    return gather(a_training(AT, "retrain"), lab).training.digest()


@pytest.fixture
def moved(lab: SmallLab) -> SmallLab:
    """The batches are gone: what the next training reads is the accepted tables and what production captured."""
    (lab.home / "inbox").rename(lab.home / "moved-away")
    return lab


def test_the_next_training_reads_what_production_captured(moved: SmallLab) -> None:
    before = gather(a_training(AT), moved)
    served(moved, 7, 8, 9, 10)
    after = gather(a_training(AT), moved)

    assert len(after.training) == len(before.training) + 2 * 7 * PER_DAY
    assert all(key.startswith(("2013-W09", "2013-W10")) for key in after.held_out.keys)
    assert len(after.held_out) > 2 * 7 * PER_DAY - 10  # the last evening's parcels are still on their way
    assert {one.table for one in after.inputs} == {"parcels", PREDICTIONS, OUTCOMES}
    assert {(pin.table, pin.version) for pin in moved.tables.pins()} >= {(one.table, one.version) for one in after.inputs}


def changed(window_rows: pd.DataFrame, column: str, value: Any) -> pd.DataFrame:
    rows = window_rows.copy()
    rows.loc[17, column] = value
    return rows


def test_one_captured_feature_or_label_changes_the_data_and_nothing_else_does(first_home: SmallLab, tmp_path: Path) -> None:
    """Not the order in which answers and outcomes came, not outcomes that came twice or weeks later, not a second replica, not ids."""
    plain = parcels(week(7))
    late_label = plain.copy()
    late_label.loc[17, "delivered_at"] = week(9).start
    ways: dict[str, dict[str, Any]] = {
        "as it was": {"rows": plain},
        "in another order": {"rows": plain, "shuffle": 3},
        "some twice": {"rows": plain, "twice": True, "shuffle": 4},
        "one outcome later": {"rows": late_label},
        "by another replica": {"rows": plain, "replica": "replica-2"},
        "one load": {"rows": changed(plain, "load", 0.123456)},
        "one depot": {"rows": changed(plain, "depot", "east")},
        "one label": {"rows": changed(plain, "hours_late", -plain["hours_late"][17])},
        "one label less": {"rows": changed(plain, "hours_late", np.nan)},
    }
    found = {}
    for number, (name, how) in enumerate(ways.items()):
        lab = copied(first_home, tmp_path / f"home-{number}")
        shutil.rmtree(lab.home / "inbox")
        serve(lab, week(7), **how)
        ship(lab)
        found[name] = digest(lab)

    same = {name for name, each in found.items() if each == found["as it was"]}
    assert same == {"as it was", "in another order", "some twice", "one outcome later", "by another replica"}
    assert len(set(found.values())) == 5


def test_an_outcome_that_is_not_known_yet_is_no_label(moved: SmallLab) -> None:
    rows = parcels(week(7))
    rows.loc[17, "delivered_at"] = AT + timedelta(days=1)
    serve(moved, week(7), rows=rows)
    ship(moved)

    assert "2013-W07-0017" not in gather(a_training(AT), moved).training.keys
    assert "2013-W07-0017" in gather(a_training(AT + timedelta(days=2)), moved).training.keys


def test_probes_are_not_trained_on(moved: SmallLab) -> None:
    before = digest(moved)
    log = PredictionLog(moved.home / "serving" / "replica-1" / "log")
    serve(moved, week(7), replica="replica-2")
    from mlops_lab.serving.prediction_log import read_frames

    for _, frame in read_frames(moved.home / "serving" / "replica-2" / "log"):
        log.append(frame | ({"purpose": "probe"} if frame["kind"] == "predictions" else {}))
    log.close()
    shutil.rmtree(moved.home / "serving" / "replica-2")
    ship(moved)

    assert len(moved.tables.read(PREDICTIONS)) == 7 * PER_DAY
    assert digest(moved) == before


def test_a_week_that_ended_in_a_data_incident_is_not_trained_on(moved: SmallLab) -> None:
    served(moved, 7)
    before = digest(moved)
    broken = parcels(week(8)).assign(weight_kg=lambda rows: rows["weight_kg"] * 1000)
    served(moved, 8, rows=broken)
    assert digest(moved) != before
    reach(moved, 8)

    assert [decision["outcome"] for decision in moved.ledger.decisions()] == ["ok", "data_incident"]
    assert digest(moved) == before


def test_a_week_that_ended_in_a_data_incident_judges_nobody(moved: SmallLab) -> None:
    served(moved, 7, 8)
    broken = parcels(week(9)).assign(weight_kg=lambda rows: rows["weight_kg"] * 1000)
    served(moved, 9, rows=broken)
    reach(moved, 9)
    held_out = held_out_rows(moved, week(10).start)

    assert [decision["outcome"] for decision in moved.ledger.decisions()][-1] == "data_incident"
    assert len(held_out) > 0
    assert held_out.moments.max() < as_moment(week(9).start)


def test_what_was_accepted_later_does_not_change_what_an_old_order_gives(moved: SmallLab) -> None:
    order = a_training(week(7).start)
    before = gather(order, moved)
    ingest(replace(deliver(moved, week(7)), at=week(9).start), moved)
    late = parcels(week(2)).assign(parcel_id=lambda rows: "late-" + rows["parcel_id"])
    ingest(replace(deliver(moved, week(52), late), at=week(9).start), moved)
    after = gather(order, moved.again())

    assert after.training.digest() == before.training.digest()
    assert after.inputs == before.inputs


def test_without_an_accepted_batch_there_is_nothing_to_train_on(empty: SmallLab) -> None:
    with pytest.raises(NotEnoughData, match="No batch"):
        gather(a_training(week(7).start), empty)


@pytest.mark.parametrize("number", [3, 4])
def test_too_few_labelled_rows_before_the_judges_weeks_are_not_enough(empty: SmallLab, number: int) -> None:
    """One week is too little, and the two newest do not count: they are the judge's."""
    for each in range(1, number):
        ingest(deliver(empty, week(each)), empty)

    with pytest.raises(NotEnoughData, match="500 are needed"):
        gather(a_training(week(number).start), empty)


def test_rows_of_one_label_only_are_not_enough(empty: SmallLab) -> None:
    for each in range(1, 6):
        ingest(deliver(empty, week(each), parcels(week(each)).assign(hours_late=-1.0)), empty)

    with pytest.raises(NotEnoughData, match="both labels"):
        gather(a_training(week(6).start), empty)


def test_a_failed_training_order_is_over_and_registers_nothing(empty: SmallLab) -> None:
    give(empty, a_training(week(7).start))
    work(empty)

    assert empty.ledger.facts("order_failed")[-1].body["what"] == "No batch was accepted yet."
    assert empty.ledger.versions() == []


@pytest.mark.parametrize("share", [0.1, 0.4])
def test_a_drill_turns_round_the_labels_of_the_drawn_rows_and_no_other(lab: SmallLab, share: float) -> None:
    """Which ones is decided by key and seed: row i in the order of keys is turned when the i-th draw is below the share."""
    straight = gather(a_training(week(7).start), lab).training
    turned = gather(a_training(week(7).start, flip_share=share), lab).training
    drawn = np.random.default_rng(lab.seed).random(len(straight)) < share
    order = np.argsort(straight.keys)

    assert list(turned.keys) == list(straight.keys)
    pd.testing.assert_frame_equal(turned.features, straight.features)
    assert set(straight.keys[turned.labels != straight.labels]) == set(straight.keys[order][drawn])
    assert 0.8 * share < drawn.mean() < 1.2 * share


def test_a_training_twice_gives_one_version_and_the_same_digests(lab: SmallLab) -> None:
    order = a_training(week(7).start)
    first = lab.ledger.version(1)
    again = train.train(order, lab)

    assert again == first
    assert len(lab.ledger.versions()) == 1


def test_rows_that_a_model_was_trained_on_are_not_held_against_it(lab: SmallLab) -> None:
    served(lab, 7, 8)
    material = gather(a_training(week(9).start), lab)

    assert material.trained_until == week(7).start
    assert set(material.training.keys).isdisjoint(material.held_out.keys)
    assert material.training.moments.max() < np.datetime64("2013-02-11")
    assert material.held_out.moments.min() >= np.datetime64("2013-02-11")


# --- Judgement and promotion ------------------------------------------------------------------------------------------------------


def test_a_bad_challenger_is_refused_with_its_evidence_kept(lab: SmallLab) -> None:
    served(lab, 7, 8)
    judgement, version = training_flow(a_training(week(9).start, "drill", flip_share=0.5), lab)
    record = lab.ledger.judgement(version.number)

    assert judgement.outcome == "keep"
    assert lab.ledger.state(version.number) == State.REFUSED
    assert record is not None
    evidence = pd.read_parquet(lab.home / record["evidence"]["file"])
    assert len(evidence) == record["evidence"]["rows"] > 800
    assert evidence[["champion", "challenger"]].notna().all(axis=None)
    with pytest.raises(PromotionRefused):
        promote(version.number, week(9).start, OPERATOR, lab)


def test_what_was_judged_as_of_a_moment_stands(lab: SmallLab) -> None:
    version = lab.ledger.version(1)
    first = lab.ledger.judgement(1)
    judged = judge_version(version, week(7).start, lab)

    assert judged.outcome == "promote"
    assert lab.ledger.judgement(1) == first
    assert len(lab.ledger.facts("judgement")) == 1


def test_a_promotion_that_another_one_overtook_loses_the_race(lab: SmallLab, monkeypatch: pytest.MonkeyPatch) -> None:
    served(lab, 7, 8, turned=True)
    versions = [training_flow(a_training(week(9).start, f"drill-{i}"), lab)[1].number for i in range(2)]
    other, seen = lab.again(), lab.ledger.current(Role.CHAMPION)
    promote(versions[1], week(9).start, OPERATOR, other, kind="override", why="first")
    monkeypatch.setattr(lab.ledger, "current", lambda role: seen)

    with pytest.raises(LostTheRace, match=str(versions[1])):
        promote(versions[0], week(9).start, OPERATOR, lab, kind="override", why="too late")
    assert other.ledger.champion().version == versions[1]
    assert len(lab.ledger.assignments()) == 2


def test_a_judgement_against_another_champion_promotes_nothing(lab: SmallLab) -> None:
    """Better than version 1 says nothing about a version that took the traffic since."""
    served(lab, 7, 8, 9, 10, turned=True)
    judgement, better = training_flow(a_training(AT, "curiosity"), lab)
    lab.approvals.approve(better.number, read_token(lab.keys / f"{APPROVER}.token"), "better than version 1", AT)
    other = training_flow(a_training(AT, "other"), lab)[1]
    promote(other.number, AT, OPERATOR, lab, kind="override", why="came first")

    assert judgement.outcome == "promote"
    with pytest.raises(PromotionRefused, match=f"against version 1, but the champion is version {other.number}"):
        promote(better.number, AT, OPERATOR, lab)
    assert lab.ledger.champion().version == other.number


def unchecked(lab: SmallLab) -> SqliteBus:
    """The home's bus as anybody may write to it."""
    return SqliteBus(lab.home / "bus.db")


def test_an_order_on_which_the_platform_itself_fails_is_recorded_and_does_not_end_the_worker(
    lab: SmallLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Delivered again it would end the worker again, and nothing behind it would ever be done."""
    monkeypatch.setattr(handlers, "promote", lambda *_: {}["a fault of ours"])
    lab.bus.publish(CONTROL, [PromoteModel("broken", AT, OPERATOR, 1).to_message(lab.model)])
    give(lab, replace(deliver(lab, week(7)), at=AT))
    work(lab)

    assert [fact.subject for fact in lab.ledger.facts("order_failed")] == ["broken"]
    assert "KeyError" in lab.ledger.facts("order_failed")[0].body["what"]
    assert lab.snapshots.all()[-1].batch == week(7).id


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (Message("IngestBatch", AT, "2013-W07", {"by": OPERATOR, "folder": 7, "window": "2013-W07"}, id="bad"), "malformed_data"),
        (Message("IngestBatch", AT, "2013-W07", {"by": OPERATOR, "folder": "x", "window": "w"}, id="bad", version=2), "unknown_version"),
        (Message("TrainModle", AT, "parcels", {"by": OPERATOR}, id="bad"), "unknown_type"),
        (Message("ClockReached", NOW + timedelta(days=1), "clock", {}, id="bad"), "from_the_future"),
    ],
)
def test_a_control_message_that_is_refused_becomes_one_dead_letter_and_the_next_is_worked_on(
    lab: SmallLab, message: Message, reason: str
) -> None:
    unchecked(lab).publish(CONTROL, [message])
    give(lab, replace(deliver(lab, week(7)), at=AT))
    work(lab)

    [(letter, _)] = dead_letters(lab.bus, CONTROL)
    assert (letter.reason, letter.event()) == (reason, message)
    assert [fact.subject for fact in lab.ledger.facts("order_failed")] == (["bad"] if message.type == "IngestBatch" else [])
    assert lab.snapshots.all()[-1].batch == week(7).id
    assert settled(lab)


def test_a_control_message_that_cannot_be_read_becomes_a_dead_letter_and_the_next_is_worked_on(lab: SmallLab) -> None:
    unchecked(lab).publish(CONTROL, [Message("ClockReached", AT, "clock", {}, id="spoilt")])
    with sqlite3.connect(lab.home / "bus.db") as db:
        db.execute("UPDATE message SET data = '{' WHERE id = 'spoilt'")
    give(lab, replace(deliver(lab, week(7)), at=AT))
    work(lab)

    assert [lying.letter.reason for lying in dead_letters(lab.bus, CONTROL)] == ["unreadable"]
    assert lab.snapshots.all()[-1].batch == week(7).id
    assert settled(lab)


def test_promoting_the_champion_again_changes_nothing(lab: SmallLab) -> None:
    before = lab.ledger.champion()

    assert promote(1, week(9).start, OPERATOR, lab) == before
    assert lab.ledger.assignments() == [before]


def test_the_alias_follows_the_ledger_and_is_repaired(lab: SmallLab) -> None:
    assert lab.catalog.alias() is None
    work(lab)
    assert lab.catalog.alias() == 1
    lab.catalog.project_alias(None)

    assert project_alias(lab) == lab.catalog.alias() == 1
    assert lab.catalog.tags(1)["state"] == "serving"


# --- Watch ------------------------------------------------------------------------------------------------------------------------


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


def test_an_operators_order_promotes_what_somebody_else_approved(lab: SmallLab) -> None:
    served(lab, 7, 8, 9, 10, turned=True)
    judgement, version = training_flow(a_training(AT, "curiosity"), lab)
    assert judgement.outcome == "promote"
    order = PromoteModel("promote-2", AT, OPERATOR, version.number)
    give(lab, order)
    work(lab)
    assert lab.ledger.facts("order_failed")[-1].subject == "promote-2"  # nobody approved it yet
    lab.approvals.approve(version.number, read_token(lab.keys / f"{APPROVER}.token"), "better", AT)
    give(lab, replace(order, id="promote-2-again"))
    work(lab)

    assert lab.ledger.champion().version == version.number


def test_work_that_appears_between_two_looks_is_not_overlooked() -> None:
    """A worker may publish what follows and commit what led to it while somebody asks whether all is done."""

    class Busy:
        last = 5

        def committed(self, group: str, topic: str) -> int:
            done, self.last = self.last, self.last + 1
            return done

        def head(self, topic: str) -> int:
            return self.last

        def partitions(self, topic: str) -> int:
            return 0

        def waiting(self) -> dict[str, int]:
            return {}

    busy = SimpleNamespace(bus=Busy(), outbox=SimpleNamespace(pending=lambda limit: []), settings=Settings())
    assert not settled(busy)  # type: ignore[arg-type]


# --- Answers by a canary ------------------------------------------------------------------------------------------------------------


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


def test_what_a_canary_answered_is_trained_on_once_like_any_answer(moved: SmallLab, first_home: SmallLab, tmp_path: Path) -> None:
    """Inputs and outcomes are the same, whoever answered: so is the training data, to the digest."""
    other = copied(first_home, tmp_path / "with-canary")
    shutil.rmtree(other.home / "inbox")
    serve(moved, week(7))
    serve(other, week(7), canary=2)
    ship(moved)
    ship(other)

    assert digest(other) == digest(moved)
    keys = gather(a_training(AT), other).training.keys
    assert len(set(keys)) == len(keys)


def test_an_interrupted_replay_knows_what_a_canary_answered(lab: SmallLab) -> None:
    serve(lab, week(7), canary=2)
    before = answered_since(lab, week(7).start - timedelta(seconds=1))
    ship(lab)

    assert answered_since(lab.again(), week(7).start - timedelta(seconds=1)) == before
    assert len(before) == 7 * PER_DAY


# --- Shipping and resuming --------------------------------------------------------------------------------------------------------


def test_shipping_again_moves_nothing(lab: SmallLab) -> None:
    serve(lab, week(7))
    serve(lab, week(8), replica="replica-2")

    assert ship(lab) == 4 * 7 * PER_DAY
    assert ship(lab) == ship(lab.again()) == 0
    assert lab.tables.read(PREDICTIONS)["prediction_id"].is_unique


def test_an_interrupted_replay_knows_every_answer_whether_shipped_or_not(lab: SmallLab) -> None:
    served(lab, 7)
    serve(lab, week(8))
    known = answered_since(lab, week(7).start - timedelta(seconds=1))

    assert len(known) == 2 * 7 * PER_DAY
    assert known["2013-W07-0000"] == ("answer-2013-W07-0000", week(7).start)
    assert len(answered_since(lab, week(8).start - timedelta(seconds=1))) == 7 * PER_DAY
    assert answered_since(lab, week(9).start) == {}


def test_packages_are_published_under_their_digest(lab: SmallLab) -> None:
    version = lab.ledger.version(1)
    package = DirectoryStore(lab.home / "packages").get(version.scorer_sha256)

    assert package == lab.catalog.package(1)
