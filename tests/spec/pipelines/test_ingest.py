"""A batch is taken in whole, or waits in quarantine; the same batch again changes nothing."""

import shutil
from pathlib import Path

import pytest

from mlops_lab.errors import BatchConflict, BatchUnreadable, SnapshotRefused
from mlops_lab.pipelines.ingest import ingest
from parcel_builders import PER_DAY, parcels, week
from pipeline_builders import SmallLab, deliver, on_control


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
