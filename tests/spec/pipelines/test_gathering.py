"""What was captured is what is trained on: each row once, whoever answered, and none that nobody could know."""

import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlops_lab.data.label import OUTCOMES
from mlops_lab.data.prediction import PREDICTIONS
from mlops_lab.errors import NotEnoughData
from mlops_lab.pipelines.ingest import ingest
from mlops_lab.pipelines.ship import ship
from mlops_lab.pipelines.train import gather, held_out_rows
from mlops_lab.serving.prediction_log import PredictionLog
from mlops_lab.training.rows import as_moment
from parcel_builders import PER_DAY, parcels, week
from pipeline_builders import SmallLab, a_training, copied, deliver, give, reach, serve, served, work

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
