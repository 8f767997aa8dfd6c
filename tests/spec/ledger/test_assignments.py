"""The ledger decides what serves: one winner, one history, and who may be on trial beside the champion."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from ledger_builders import AT, DAY, a_version, approved, events, promote, try_out
from mlops_lab.errors import ApprovalRefused, LostTheRace, NoChampion, PromotionRefused
from mlops_lab.registry import Role, State
from mlops_lab.registry.on_sql import SqlLedger


def test_before_the_first_promotion_there_is_no_champion(ledger: SqlLedger) -> None:
    assert ledger.serving_at(AT) is None
    with pytest.raises(NoChampion):
        ledger.champion()
    with pytest.raises(NoChampion):
        ledger.rollback(AT, "watch", "worse")


def test_a_promotion_needs_an_approval_by_somebody_else(ledger: SqlLedger) -> None:
    ledger.add_version(a_version(1), actor="trainer")

    with pytest.raises(PromotionRefused, match="nobody approved it"):
        promote(ledger, 1)
    for own in ("tom", "trainer", "Tom "):
        with pytest.raises(ApprovalRefused, match="may not approve it"):
            ledger.approve(1, why="mine is good", at=AT, by=own, body={})
    assert ledger.assignments() == []


def test_what_served_when_is_one_question(ledger: SqlLedger) -> None:
    approved(ledger, 1, 2)
    first = promote(ledger, 1, AT)
    second = promote(ledger, 2, AT + 7 * DAY)

    assert ledger.serving_at(AT - DAY) is None
    assert ledger.serving_at(AT + 3 * DAY) == first
    assert ledger.serving_at(AT + 7 * DAY) == second == ledger.champion()
    assert (second.replaces, second.from_version, second.recorded_at) == (first.id, 1, datetime(2026, 1, 5, 9, tzinfo=UTC))


def test_who_saw_an_older_assignment_loses_and_learns_who_won(ledger: SqlLedger) -> None:
    approved(ledger, 1, 2)
    promote(ledger, 1)

    with pytest.raises(LostTheRace, match="the champion is now version 1 by 'pipeline'"):
        ledger.assign(Role.CHAMPION, 2, replacing=None, kind="promotion", by="late", why="better", at=AT)
    assert ledger.champion().version == 1


def test_a_shadow_needs_no_approval_and_leaves_the_champion_alone(ledger: SqlLedger, tmp_path: Path) -> None:
    approved(ledger, 1)
    promote(ledger, 1)
    ledger.add_version(a_version(2), actor="trainer")

    shadow = ledger.assign(Role.SHADOW, 2, replacing=None, kind="promotion", by="pipeline", why="to compare", at=AT, weight=0.0)
    assert (ledger.current(Role.SHADOW), ledger.champion().version, ledger.state(2)) == (shadow, 1, State.PROPOSED)
    ledger.assign(Role.SHADOW, None, replacing=shadow.id, kind="promotion", by="pipeline", why="compared", at=AT, weight=0.0)

    now = ledger.current(Role.SHADOW)
    assert now is not None
    assert now.version is None
    assert [event.type for event in events(ledger, tmp_path)][-2:] == ["RoleAssigned", "RoleAssigned"]


def test_a_champion_has_all_requests_and_a_share_is_a_share(ledger: SqlLedger) -> None:
    approved(ledger, 1)
    for role, weight in ((Role.CHAMPION, 0.5), (Role.CANARY, 1.5), (Role.CANARY, float("nan"))):
        with pytest.raises(ValueError, match="is not a share"):
            ledger.assign(role, 1, replacing=None, kind="promotion", by="p", why="-", at=AT, weight=weight)
    with pytest.raises(ValueError, match="no kind of assignment"):
        ledger.assign(Role.CHAMPION, 1, replacing=None, kind="coup", by="p", why="-", at=AT)


@pytest.mark.parametrize("role", [Role.CANARY, Role.SHADOW])
@pytest.mark.parametrize("kind", ["promotion", "override"])
def test_neither_the_champion_nor_a_barred_version_is_tried(ledger: SqlLedger, role: Role, kind: str) -> None:
    approved(ledger, 1, 2)
    promote(ledger, 1)
    ledger.bar(2, "leaks the label", AT, "ann")

    with pytest.raises(PromotionRefused, match="would be compared with itself"):
        try_out(ledger, role, 1, kind=kind)
    with pytest.raises(PromotionRefused, match="barred"):
        try_out(ledger, role, 2, kind=kind)
    assert ledger.current(role) is None


def roles(ledger: SqlLedger) -> dict[Role, int | None]:
    return {role: line.version for role, line in ledger.standing().lines.items()}


def test_what_is_promoted_rolled_back_or_barred_is_not_on_trial_any_more(ledger: SqlLedger) -> None:
    approved(ledger, 1, 2, 3, 4)
    promote(ledger, 1)
    try_out(ledger, Role.CANARY, 2)
    try_out(ledger, Role.SHADOW, 3)

    promote(ledger, 2)
    assert roles(ledger) == {Role.CHAMPION: 2, Role.CANARY: None, Role.SHADOW: 3}
    ledger.bar(3, "a complaint", AT, "ann")
    assert roles(ledger) == {Role.CHAMPION: 2, Role.CANARY: None, Role.SHADOW: None}
    try_out(ledger, Role.CANARY, 4)
    try_out(ledger, Role.SHADOW, 1)
    ledger.rollback(AT, "watch", "worse")
    assert roles(ledger) == {Role.CHAMPION: 1, Role.CANARY: 4, Role.SHADOW: None}
    assert (ledger.unaccounted(), ledger._trail.verify()) == ([], None)
