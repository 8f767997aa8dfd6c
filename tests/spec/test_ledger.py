"""The ledger decides what serves: one winner, one history, every row accounted for."""

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import text

from databases import database_of
from mlops_lab.audit import HeadsFile
from mlops_lab.audit.on_sql import SqlAudit, open_engine
from mlops_lab.bootstrap.followed import LedgerOfHome
from mlops_lab.clock import FixedClock
from mlops_lab.errors import ApprovalRefused, LostTheRace, NoChampion, PromotionRefused, RegistryUnreachable, UnknownVersion, VersionTaken
from mlops_lab.events import Message
from mlops_lab.events.on_sql import SqlOutbox, writing
from mlops_lab.registry import Assignment, ModelVersion, Role, Standing, State
from mlops_lab.registry.on_sql import SqlLedger

AT = datetime(2013, 4, 8, tzinfo=UTC)
DAY = timedelta(days=1)
MODEL = "flight-delay"

# A process of its own: waits for the line of start, then does one thing and says how it went.
RACER = """
import os, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from mlops_lab.audit import HeadsFile
from mlops_lab.audit.on_sql import SqlAudit, open_engine
from mlops_lab.clock import WallClock
from mlops_lab.errors import LostTheRace
from mlops_lab.events import Message
from mlops_lab.registry import Role
from mlops_lab.registry.on_sql import SqlLedger

home, what, number = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
trail = SqlAudit(open_engine(sys.argv[4]), HeadsFile(home / "heads.jsonl"), key, WallClock())
ledger, at, me = SqlLedger(trail, "flight-delay"), datetime(2013, 4, 8, tzinfo=UTC), f"racer-{number}"
champion = ledger.current(Role.CHAMPION)
print("ready", flush=True)
sys.stdin.readline()
try:
    if what == "promote":
        ledger.assign(Role.CHAMPION, number, replacing=champion.id, kind="promotion", by=me, why="better", at=at)
    elif what == "rollback":
        ledger.rollback(at, me, "worse", leaving=champion.version)
    elif what == "decide":
        ledger.record_decision("2013-W14", {"outcome": "retrain", "because": me}, at, me)
    elif what == "restate":
        ledger.record("restatement", "2013-W14", {"version": 2}, at=at, by=me, why="-", behind=0)
    elif what == "pin":
        body = {"id": "pin-a"}
        if ledger.take_in_pin("pin-a", number, barring=[2], superseded=[], at=at, by=me, why="-", body=body) is None:
            sys.exit(print("lost: it is in", flush=True))
    elif what == "write":
        for each in range(1000):
            note = Message("Noted", at, "x", {"each": each})
            ledger.record("note", f"{number}-{each}", {"each": each}, at=at, by=me, why="-", emit=[note])
            print(f"{number}-{each}", flush=True)
    elif what == "die":
        tell = SqlLedger._tell
        def dies(*arguments):
            tell(*arguments)
            os.kill(os.getpid(), signal.SIGKILL)
        SqlLedger._tell = dies
        ledger.assign(Role.CHAMPION, number, replacing=champion.id, kind="promotion", by=me, why="better", at=at)
    print("won", flush=True)
except LostTheRace as error:
    print("lost:", error.what, flush=True)
"""


def a_ledger(home: Path, model: str = MODEL) -> SqlLedger:
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    clock = FixedClock(datetime(2026, 1, 5, 9, tzinfo=UTC))
    return SqlLedger(SqlAudit(open_engine(database_of(home)), HeadsFile(home / "heads.jsonl"), key, clock), model)


def a_version(number: int, run_id: str | None = None) -> ModelVersion:
    return ModelVersion(
        model=MODEL,
        number=number,
        run_id=run_id or f"run-{number}",
        scorer_sha256=f"{number:064x}",
        data_sha256="d" * 64,
        trained_until=AT,
        registered_at=datetime(2026, 1, 5, 8, tzinfo=UTC),
        registered_by="tom",
        origin="retrain",
    )


def approved(ledger: SqlLedger, *numbers: int) -> None:
    for number in numbers:
        ledger.add_version(a_version(number), actor="trainer")
        ledger.record_judgement(number, {"outcome": "promote", "because": "Brier gain 0.004"}, AT, "judge")
        ledger.approve(number, why="agreed", at=AT, by="ann", body={})


def promote(ledger: SqlLedger, number: int, at: datetime = AT) -> Assignment:
    now = ledger.current(Role.CHAMPION)
    return ledger.assign(
        Role.CHAMPION, number, replacing=now.id if now else None, kind="promotion", by="pipeline", why="better by 0.004", at=at
    )


def events(ledger: SqlLedger, home: Path) -> list[Message]:
    return [each.message for each in SqlOutbox(open_engine(database_of(home))).pending()]


def race(home: Path, what: str, numbers: list[int]) -> list[str]:
    """Run one process per number from the same start, and return their last lines."""
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(home), what, str(number), database_of(home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in numbers
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    return [racer.communicate()[0].strip() for racer in racers]


@pytest.fixture
def ledger(tmp_path: Path) -> SqlLedger:
    return a_ledger(tmp_path)


# -- versions ------------------------------------------------------------------------------------------------------------


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


# -- assignments ---------------------------------------------------------------------------------------------------------


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


def try_out(ledger: SqlLedger, role: Role, number: int, weight: float = 0.1, kind: str = "promotion") -> Assignment:
    now = ledger.current(role)
    return ledger.assign(role, number, replacing=now.id if now else None, kind=kind, by="operator", why="to compare", at=AT, weight=weight)


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


def test_what_a_replica_has_to_know_is_read_at_one_moment_and_only_when_it_changed(
    ledger: SqlLedger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ledger.standing() == Standing({}, {})
    approved(ledger, 1, 2)
    promote(ledger, 1)
    canary = try_out(ledger, Role.CANARY, 2)
    standing = ledger.standing()

    assert standing == Standing({Role.CHAMPION: ledger.champion(), Role.CANARY: canary}, {1: f"{1:064x}", 2: f"{2:064x}"})
    assert standing.earlier == ()
    monkeypatch.setattr(ledger, "_standing", lambda connection: pytest.fail("nothing changed"))
    assert ledger.standing() is standing
    monkeypatch.undo()
    a_ledger(tmp_path).bar(2, "a complaint", AT, "ann")  # another process
    assert ledger.standing().barred == {2}
    assert ledger.standing().lines[Role.CANARY].version is None
    approved(ledger, 3)
    promote(ledger, 3)
    assert [(line.version, line.id) for line in ledger.standing().earlier] == [(1, 1)]
    assert ledger.standing().digests == {1: f"{1:064x}", 3: f"{3:064x}"}


# -- rollback, bar, override ---------------------------------------------------------------------------------------------


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


def test_of_processes_that_take_in_one_pin_one_does(ledger: SqlLedger, tmp_path: Path) -> None:
    approved(ledger, 1, 2)
    promote(ledger, 1)
    promote(ledger, 2)

    assert sorted(race(tmp_path, "pin", [1, 1, 1])) == ["lost: it is in", "lost: it is in", "won"]
    assert [line.version for line in ledger.assignments()] == [1, 2, 1]


# -- facts ---------------------------------------------------------------------------------------------------------------


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


# -- races and deaths ----------------------------------------------------------------------------------------------------


def test_of_processes_that_promote_at_once_exactly_one_wins(ledger: SqlLedger, tmp_path: Path) -> None:
    approved(ledger, 1, 2, 3, 4, 5)
    promote(ledger, 1)

    results = race(tmp_path, "promote", [2, 3, 4, 5])

    winner = ledger.champion().version
    assert results.count("won") == 1
    assert results[results.index("won")] == results[int(str(winner)) - 2]
    assert sum(f"lost: Somebody else was first: the champion is now version {winner}" in result for result in results) == 3
    assert len(ledger.assignments()) == 2
    assert (ledger.unaccounted(), a_ledger(tmp_path)._trail.verify()) == ([], None)


def test_of_processes_that_roll_back_at_once_one_goes_back_one_step(ledger: SqlLedger, tmp_path: Path) -> None:
    approved(ledger, 1, 2, 3)
    for number in (1, 2, 3):
        promote(ledger, number)

    assert sorted(result[:4] for result in race(tmp_path, "rollback", [1, 2, 3])) == ["lost", "lost", "won"]
    assert ledger.champion().version == 2


def test_of_processes_that_decide_at_once_the_first_stands(ledger: SqlLedger, tmp_path: Path) -> None:
    approved(ledger, 1)
    promote(ledger, 1)

    assert race(tmp_path, "decide", [1, 2, 3]) == ["won", "won", "won"]
    assert len(ledger.decisions()) == 1


def test_of_facts_that_were_made_from_the_same_earlier_ones_one_is_kept(ledger: SqlLedger, tmp_path: Path) -> None:
    approved(ledger, 1)
    promote(ledger, 1)

    assert sorted(result[:4] for result in race(tmp_path, "restate", [1, 2, 3])) == ["lost", "lost", "won"]
    (fact,) = ledger.facts("restatement", "2013-W14")
    same = ledger.record("restatement", "2013-W14", {"version": 2}, at=fact.at, by=fact.by, why="-", behind=0)
    assert same.id == fact.id  # the winner again
    with pytest.raises(LostTheRace, match="of kind 'restatement' there are 1 facts about 2013-W14 by now, and not 0"):
        ledger.record("restatement", "2013-W14", {"version": 2}, at=AT, by="late", why="-", behind=0)
    ledger.record("restatement", "2013-W14", {"version": 3}, at=AT, by="late", why="-", behind=1)
    assert ledger.unaccounted() == []


def test_threads_that_promote_at_once_have_one_winner(ledger: SqlLedger) -> None:
    approved(ledger, 1, 2, 3, 4)
    now, outcomes = promote(ledger, 1), []
    start = threading.Barrier(3)

    def run(number: int) -> None:
        start.wait()
        try:
            ledger.assign(Role.CHAMPION, number, replacing=now.id, kind="promotion", by=f"thread-{number}", why="-", at=AT)
            outcomes.append("won")
        except LostTheRace:
            outcomes.append("lost")

    threads = [threading.Thread(target=run, args=(number,)) for number in (2, 3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["lost", "lost", "won"]


def test_a_promoter_killed_in_mid_transaction_changed_nothing(ledger: SqlLedger, tmp_path: Path) -> None:
    """The assignment and its message were written, the audit entry was not: none of it is there, and the next one works."""
    approved(ledger, 1, 2)
    promote(ledger, 1)
    before = (len(ledger.assignments()), len(events(ledger, tmp_path)), len(ledger._trail.entries()))
    killed = subprocess.run(
        [sys.executable, "-c", RACER, str(tmp_path), "die", "2", database_of(tmp_path)],
        input="go\n",
        text=True,
        check=False,
        env=os.environ,
        capture_output=True,
    )

    assert killed.returncode == -signal.SIGKILL
    assert (len(ledger.assignments()), len(events(ledger, tmp_path)), len(ledger._trail.entries())) == before
    assert promote(ledger, 2).version == 2
    assert (ledger.unaccounted(), ledger._trail.verify()) == ([], None)


def test_what_was_acknowledged_before_a_kill_is_there_and_nothing_is_half(ledger: SqlLedger, tmp_path: Path) -> None:
    """Writers that were killed at any moment while they wrote as fast as they could."""
    chance, acknowledged = random.Random(7), []
    for number in range(6):
        command = [sys.executable, "-c", RACER, str(tmp_path), "write", str(number), database_of(tmp_path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdin is not None
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
            writer.stdin.write("go\n")
            writer.stdin.flush()
            acknowledged += [writer.stdout.readline().strip() for _ in range(chance.randint(3, 12))]
            writer.kill()
            acknowledged += writer.stdout.read().split()

        notes = [fact.subject for fact in ledger.facts("note")]
        assert set(acknowledged) <= set(notes)
        assert len(events(ledger, tmp_path)) == len(notes) == len(ledger._trail.entries())
        assert (ledger.unaccounted(), ledger._trail.verify()) == ([], None)


# -- accounts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("UPDATE assignment SET version = 2 WHERE id = 1", "assignment/1 does not have the content that was recorded."),
        ("UPDATE assignment SET at = '2013-01-01T00:00:00Z' WHERE id = 2", "assignment/2 does not have the content that was recorded."),
        ("DELETE FROM assignment WHERE id = 2", "assignment/2 was recorded, but is not in the database any more."),
        (
            "INSERT INTO assignment SELECT 3, model, role, 2, 1, 2, weight, at, recorded_at, by, why, kind FROM assignment WHERE id = 2",
            "assignment/3 is in the database, but no audit entry recorded it.",
        ),
        ('UPDATE fact SET body = \'{"outcome":"keep"}\' WHERE id = 1', "fact/1 does not have the content that was recorded."),
        ("DELETE FROM fact WHERE id = 2", "fact/2 was recorded, but is not in the database any more."),
        (
            "UPDATE model_version SET scorer_sha256 = 'f00d' WHERE number = 1",
            "model_version/flight-delay/1 does not have the content that was recorded.",
        ),
        (
            "UPDATE model_version SET added_by = 'x' WHERE number = 1",
            "model_version/flight-delay/1 does not have the content that was recorded.",
        ),
        ("UPDATE outbox SET event = '{}' WHERE position = 2", "outbox/2 does not have the content that was recorded."),
    ],
)
def test_a_row_changed_behind_the_audits_back_is_named(ledger: SqlLedger, statement: str, found: str) -> None:
    approved(ledger, 1, 2)
    promote(ledger, 1)
    promote(ledger, 2)
    assert ledger.unaccounted() == []

    with writing(ledger._engine) as connection:
        connection.execute(text(statement.replace(":", r"\:")))

    assert ledger.unaccounted() == [found]
    assert ledger._trail.verify() is None


def test_every_write_leaves_an_entry_with_its_actor_and_reason(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    approved(ledger, 1, 2)
    for number in (1, 2):
        promote(ledger, number)
    ledger.rollback(AT, "watch", "worse by 0.01")

    told = [(entry.action, entry.subject, entry.actor, entry.reason) for entry in ledger._trail.entries()]
    assert told[:4] == [
        ("ModelRegistered", "flight-delay/1", "trainer", "retrain"),
        ("VersionJudged", "flight-delay/1", "judge", "Brier gain 0.004"),
        ("VersionApproved", "flight-delay/1", "ann", "agreed"),
        ("ModelRegistered", "flight-delay/2", "trainer", "retrain"),
    ]
    assert told[-2:] == [
        ("ModelPromoted", "flight-delay/2", "pipeline", "better by 0.004"),
        ("ModelRolledBack", "flight-delay", "watch", "worse by 0.01"),
    ]
    assert ledger._trail.entries()[-2].digests["scorer"] == f"{2:064x}"


def test_a_ledger_that_was_written_in_one_process_is_read_in_another(tmp_path: Path) -> None:
    approved(a_ledger(tmp_path), 1)
    promote(a_ledger(tmp_path), 1)

    assert a_ledger(tmp_path).champion().version == 1


def test_who_reads_does_not_wait_for_who_writes(ledger: SqlLedger, tmp_path: Path) -> None:
    """A replica that starts while a long record is open learns at once what serves."""
    approved(ledger, 1)
    promote(ledger, 1)

    with writing(ledger._engine):
        assert a_ledger(tmp_path).champion().version == 1


def test_a_ledger_file_that_was_removed_is_down_and_one_that_was_put_back_is_followed(tmp_path: Path) -> None:
    """An open database lives on after its file was removed: what nobody else sees may not be followed for ever, and is not made anew."""
    home, other = tmp_path / "home", tmp_path / "other"
    for folder, versions in ((home, (1,)), (other, (1, 2))):
        folder.mkdir()
        ledger = a_ledger(folder)
        approved(ledger, *versions)
        for number in versions:
            promote(ledger, number)
        ledger.close()
    followed = LedgerOfHome(home, MODEL)
    assert followed.standing().lines[Role.CHAMPION].version == 1

    for path in home.glob("lab.db*"):
        path.unlink()
    with pytest.raises(RegistryUnreachable, match="No such file"):
        followed.standing()
    assert not (home / "lab.db").exists()
    shutil.copy(other / "lab.db", home / "lab.db")
    assert followed.standing().lines[Role.CHAMPION].version == 2
    newer = a_ledger(other)
    approved(newer, 3)
    promote(newer, 3)
    newer.close()
    for path in home.glob("lab.db-*"):
        path.unlink()
    (other / "lab.db").rename(home / "lab.db")  # without a look in between
    assert followed.standing().lines[Role.CHAMPION].version == 3
