"""A version in the ledger: kept as it was registered, and what may become of it."""

from pathlib import Path

import pytest

from ledger_builders import AT, MODEL, a_version, approved, events, promote
from mlops_lab.errors import PromotionRefused, UnknownVersion, VersionTaken
from mlops_lab.registry import Role, State
from mlops_lab.registry.on_sql import SqlLedger


def test_a_version_is_kept_as_it_was_registered(ledger: SqlLedger, tmp_path: Path) -> None:
    ledger.add_version(a_version(1), actor="trainer")

    assert ledger.version(1) == a_version(1)
    assert ledger.versions() == [a_version(1)]
    assert ledger.state(1) == State.PROPOSED
    (event,) = events(ledger, tmp_path)
    assert (event.type, event.subject, event.data["version"], event.data["scorer_sha256"]) == ("ModelRegistered", MODEL, 1, f"{1:064x}")


def test_registering_again_changes_nothing_and_other_content_is_refused(ledger: SqlLedger, tmp_path: Path) -> None:
    ledger.add_version(a_version(1), actor="trainer")
    ledger.add_version(a_version(1), actor="trainer")

    assert len(events(ledger, tmp_path)) == 1
    with pytest.raises(VersionTaken, match="by run run-1, with other content"):
        ledger.add_version(a_version(1, run_id="run-9"), actor="trainer")


def test_an_unknown_version_is_named_with_those_there_are(ledger: SqlLedger) -> None:
    approved(ledger, 1, 2)

    with pytest.raises(UnknownVersion, match=r"no version 7.\nNext: choose one of: 1, 2"):
        ledger.version(7)
    with pytest.raises(UnknownVersion):
        ledger.refuse(7, "-", AT, "ann")
    with pytest.raises(UnknownVersion):
        ledger.assign(Role.SHADOW, 7, replacing=None, kind="promotion", by="p", why="-", at=AT)


def test_a_version_goes_through_its_life(ledger: SqlLedger) -> None:
    ledger.add_version(a_version(1), actor="trainer")
    assert ledger.state(1) == State.PROPOSED
    ledger.record_judgement(1, {"outcome": "promote"}, AT, "judge")
    assert ledger.state(1) == State.JUDGED
    assert ledger.judgement(1) == {"outcome": "promote"}
    ledger.approve(1, why="agreed", at=AT, by="ann", body={})
    assert ledger.state(1) == State.APPROVED
    promote(ledger, 1)
    assert ledger.state(1) == State.SERVING
    approved(ledger, 2)
    promote(ledger, 2)
    assert (ledger.state(1), ledger.state(2)) == (State.RETIRED, State.SERVING)
    ledger.rollback(AT, "watch", "worse")
    assert (ledger.state(1), ledger.state(2)) == (State.SERVING, State.BARRED)


def test_the_latest_of_approval_and_refusal_decides_even_at_one_event_time(ledger: SqlLedger) -> None:
    approved(ledger, 1)
    ledger.refuse(1, "a second look", AT, "ann")
    assert ledger.state(1) == State.REFUSED
    with pytest.raises(PromotionRefused, match="'ann' refused it: a second look"):
        promote(ledger, 1)

    ledger.approve(1, why="agreed", at=AT, by="ann", body={})

    assert ledger.state(1) == State.APPROVED
    assert promote(ledger, 1).version == 1
