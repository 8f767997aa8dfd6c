"""The way back in the ledger: rollbacks, bars, overrides, and local pins that are taken in."""

from pathlib import Path
from typing import Any

import pytest

from ledger_builders import AT, DAY, a_ledger, a_version, approved, events, promote, try_out
from mlops_lab.errors import LostTheRace, PromotionRefused, UnknownVersion
from mlops_lab.registry import Assignment, Role, State
from mlops_lab.registry.on_sql import SqlLedger


def test_a_rollback_goes_back_and_bars_what_it_leaves(ledger: SqlLedger, tmp_path: Path) -> None:
    approved(ledger, 1, 2)
    promote(ledger, 1)
    promote(ledger, 2)

    back = ledger.rollback(AT + DAY, "watch", "Brier worse by 0.01")

    assert (back.version, back.from_version, back.kind) == (1, 2, "rollback")
    with pytest.raises(PromotionRefused, match="it is barred"):
        promote(ledger, 2)
    told = [(event.type, event.data["version"]) for event in events(ledger, tmp_path)]
    assert told[-2:] == [("ModelRolledBack", 1), ("VersionBarred", 2)]


def test_a_second_rollback_goes_further_back_and_never_to_a_barred_version(ledger: SqlLedger) -> None:
    approved(ledger, 1, 2, 3)
    for number in (1, 2, 3):
        promote(ledger, number)

    assert ledger.rollback(AT, "watch", "worse").version == 2
    assert ledger.rollback(AT, "watch", "worse still").version == 1
    with pytest.raises(PromotionRefused, match="no earlier champion"):
        ledger.rollback(AT, "watch", "worse still")
    assert ledger.champion().version == 1


def test_a_rollback_meant_for_one_version_does_not_happen_twice(ledger: SqlLedger) -> None:
    approved(ledger, 1, 2, 3)
    for number in (1, 2, 3):
        promote(ledger, number)
    ledger.rollback(AT, "watch", "worse", leaving=3)

    with pytest.raises(LostTheRace, match="the champion is now version 2 by 'watch'"):
        ledger.rollback(AT, "operator", "worse", leaving=3)
    assert ledger.champion().version == 2


def test_the_kind_rollback_is_no_way_around_an_approval(ledger: SqlLedger) -> None:
    approved(ledger, 1)
    now = promote(ledger, 1)
    ledger.add_version(a_version(2), actor="trainer")

    with pytest.raises(PromotionRefused, match="it never was champion"):
        ledger.assign(Role.CHAMPION, 2, replacing=now.id, kind="rollback", by="p", why="-", at=AT)


def test_an_override_passes_every_rule_and_is_told(ledger: SqlLedger, tmp_path: Path) -> None:
    ledger.add_version(a_version(1), actor="trainer")
    ledger.bar(1, "leaks the label", AT, "ann")

    forced = ledger.assign(Role.CHAMPION, 1, replacing=None, kind="override", by="operator", why="nothing else is left", at=AT)

    assert (ledger.champion(), ledger.state(1)) == (forced, State.BARRED)
    assert events(ledger, tmp_path)[-1].type == "OverrideForced"


def take_in(ledger: SqlLedger, pin: str = "pin-a", version: int = 1, **how: Any) -> Assignment | None:
    fields: dict[str, Any] = {"barring": [2], "superseded": [], "at": AT, "by": "operator", "why": "all was down", "body": {"id": pin}}
    return ledger.take_in_pin(pin, version, **fields | how)


def test_a_pin_is_taken_in_once_as_an_override_and_what_it_left_is_barred(ledger: SqlLedger, tmp_path: Path) -> None:
    approved(ledger, 1, 2, 3)
    promote(ledger, 1)
    promote(ledger, 2)
    try_out(ledger, Role.CANARY, 3)
    before = len(ledger._trail.entries())

    taken = take_in(ledger, barring=[2, 3, 77], superseded=["pin-0"])

    assert taken is not None
    assert (taken, taken.version, taken.kind, taken.by, taken.why) == (ledger.champion(), 1, "override", "operator", "all was down")
    assert (ledger.state(2), ledger.state(3)) == (State.BARRED, State.BARRED)
    assert ledger.standing().pins == {"pin-a", "pin-0"}
    assert ledger.standing().lines[Role.CANARY].version is None
    for pin in ("pin-a", "pin-0"):  # of another replica, or left by a process that was killed before it removed it
        assert take_in(a_ledger(tmp_path), pin) is None
    assert [each.action for each in ledger._trail.entries()[before:]] == ["OverrideForced"]
    assert ledger.champion() == taken
    assert (ledger.unaccounted(), ledger._trail.verify()) == ([], None)


def test_a_pin_to_a_version_that_the_ledger_does_not_know_changes_nothing(ledger: SqlLedger) -> None:
    approved(ledger, 1)
    promote(ledger, 1)
    with pytest.raises(UnknownVersion):
        take_in(ledger, version=9)
    assert (ledger.champion().version, ledger.standing().pins) == (1, frozenset())
