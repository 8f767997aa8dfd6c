"""Facts in the ledger: decisions stand once they are made, and each model has facts of its own."""

from pathlib import Path

import pytest

from ledger_builders import AT, DAY, MODEL, a_ledger, a_version, approved, events, promote
from mlops_lab.events import Message
from mlops_lab.registry import Role
from mlops_lab.registry.on_sql import SqlLedger


def test_a_window_is_decided_once(ledger: SqlLedger, tmp_path: Path) -> None:
    """An order that runs twice has the effect of once: the first decision stands, its message is sent once."""
    order = Message("RetrainModel", AT, MODEL, {"window": "2013-W14"})
    first = ledger.record_decision("2013-W14", {"outcome": "retrain", "because": "2 of 3"}, AT, "watch", emit=[order])
    again = ledger.record_decision(
        "2013-W14", {"outcome": "ok", "because": "-"}, AT + DAY, "watch", emit=[Message("RetrainModel", AT, MODEL, {})]
    )

    assert again == first
    assert ledger.decisions() == [{"outcome": "retrain", "because": "2 of 3"}]
    assert events(ledger, tmp_path) == [order]


def test_facts_are_found_by_kind_and_subject_in_order(ledger: SqlLedger) -> None:
    ledger.record("quarantine", "batch-1", {"failed": 2}, at=AT, by="gate", why="nulls")
    ledger.record("quarantine", "batch-1", {"failed": 1}, at=AT + DAY, by="gate", why="nulls")
    ledger.record("quarantine", "batch-1", {"failed": 1}, at=AT + DAY, by="gate", why="nulls")
    ledger.record_snapshot({"id": "4f1c9a", "rows": {"flights": 6500}}, AT, "ingest")

    assert [fact.body["failed"] for fact in ledger.facts("quarantine", "batch-1")] == [2, 1]
    assert ledger.snapshots() == [{"id": "4f1c9a", "rows": {"flights": 6500}}]
    assert len(ledger.facts()) == 3


def test_a_fact_about_a_version_has_a_method_of_its_own(ledger: SqlLedger) -> None:
    approved(ledger, 1)

    with pytest.raises(ValueError, match="approval is recorded by its own method"):
        ledger.record("approval", "1", {}, at=AT, by="tom", why="-")


def test_two_models_in_one_database_do_not_mix(ledger: SqlLedger, tmp_path: Path) -> None:
    approved(ledger, 1)
    promote(ledger, 1)
    other = a_ledger(tmp_path, "bag-count")

    assert (other.versions(), other.assignments(), other.facts(), other.current(Role.CHAMPION)) == ([], [], [], None)
    other.record_decision("2013-W14", {"outcome": "ok"}, AT, "watch")
    ledger.record_decision("2013-W14", {"outcome": "watch"}, AT, "watch")
    assert (other.decisions(), ledger.decisions()) == ([{"outcome": "ok"}], [{"outcome": "watch"}])
    with pytest.raises(ValueError, match="ledger of bag-count"):
        other.add_version(a_version(2), actor="trainer")
