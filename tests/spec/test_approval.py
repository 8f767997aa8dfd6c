"""Nobody approves their own request, and every yes and no has a name."""

import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from databases import database_of
from mlops_lab.audit import HeadsFile
from mlops_lab.audit.on_sql import SqlAudit, open_engine
from mlops_lab.clock import WallClock
from mlops_lab.errors import ApprovalRefused, EvidenceMissing, UnknownVersion, UsageError
from mlops_lab.governance import Approvals, Duty, Identity, read_token
from mlops_lab.governance.approval import is_listed_operator
from mlops_lab.registry import ModelVersion, Role, State
from mlops_lab.registry.on_sql import SqlLedger

AT = datetime(2013, 4, 8, tzinfo=UTC)
POLICY = "9" * 64


@pytest.fixture
def trail(tmp_path: Path) -> SqlAudit:
    engine = open_engine(database_of(tmp_path))
    return SqlAudit(engine, HeadsFile(tmp_path / "heads.jsonl"), Ed25519PrivateKey.generate(), WallClock())


@pytest.fixture
def ledger(trail: SqlAudit) -> SqlLedger:
    ledger = SqlLedger(trail, "flight-delay")
    for number in (1, 2, 3):
        version = ModelVersion("flight-delay", number, f"run-{number}", "a" * 64, "b" * 64, AT, trail.clock.now(), "tom", "retrain")
        ledger.add_version(version, actor="trainer")
    ledger.record_judgement(1, {"outcome": "promote", "because": "Brier gain 0.004"}, AT, "judge")
    ledger.record_judgement(2, {"outcome": "keep", "because": "Brier gain -0.002"}, AT, "judge")
    return ledger


@pytest.fixture
def approvals(ledger: SqlLedger, tmp_path: Path) -> Approvals:
    return Approvals(ledger, tmp_path / "keys")


def token_of(approvals: Approvals, name: str, role: Duty = Duty.APPROVER) -> str:
    return read_token(approvals.enrol(name, role, at=AT, by="operator"))


def test_an_approver_approves_what_another_ordered(approvals: Approvals, ledger: SqlLedger, trail: SqlAudit) -> None:
    fact = approvals.approve(1, token_of(approvals, "ann"), "gain on all days", AT)

    assert (fact.by, fact.why, ledger.state(1)) == ("ann", "gain on all days", State.APPROVED)
    assert ledger.assign(Role.CHAMPION, 1, replacing=None, kind="promotion", by="pipeline", why="-", at=AT).version == 1
    assert (trail.verify(), ledger.unaccounted()) == (None, [])


@pytest.mark.parametrize("name", ["tom", "trainer"])
def test_who_ordered_or_registered_a_version_may_not_approve_it(
    approvals: Approvals, ledger: SqlLedger, trail: SqlAudit, name: str
) -> None:
    with pytest.raises(ApprovalRefused, match=f"'{name}' ordered or registered flight-delay/1"):
        approvals.approve(1, token_of(approvals, name), "mine is good", AT)

    assert ledger.state(1) == State.JUDGED
    last = trail.entries()[-1]
    assert (last.action, last.subject, last.actor) == ("RefusedApprovalRecorded", "1", name)


@pytest.mark.parametrize("role", [Duty.TRAINER, Duty.OPERATOR])
def test_only_an_approver_approves(approvals: Approvals, ledger: SqlLedger, role: Duty) -> None:
    with pytest.raises(ApprovalRefused, match=f"'bob' is {role}, not approver"):
        approvals.approve(1, token_of(approvals, "bob", role), "looks fine", AT)
    assert ledger.state(1) == State.JUDGED


def test_a_token_of_nobody_is_refused_and_every_try_is_recorded(approvals: Approvals, ledger: SqlLedger) -> None:
    token = token_of(approvals, "ann")
    for wrong in ("", token[:-1], token[:-1] + ("0" if token[-1] != "0" else "1"), "é" * 64):
        with pytest.raises(ApprovalRefused, match="nobody's"):
            approvals.approve(1, wrong, "let me in", AT)

    assert [fact.by for fact in ledger.facts("refused_approval", "1")] == ["unknown"] * 4
    assert ledger.state(1) == State.JUDGED


def test_what_nobody_judged_cannot_be_approved(approvals: Approvals, ledger: SqlLedger) -> None:
    with pytest.raises(EvidenceMissing, match="Nobody judged flight-delay/3"):
        approvals.approve(3, token_of(approvals, "ann"), "I trust it", AT)
    with pytest.raises(EvidenceMissing):
        approvals.approve_by_policy(3, POLICY, "gain confirmed", AT)
    assert len(ledger.facts("refused_approval", "3")) == 2


def test_what_the_judge_was_against_cannot_be_approved(approvals: Approvals, ledger: SqlLedger) -> None:
    with pytest.raises(ApprovalRefused, match=r"not for flight-delay/2: Brier gain -0\.002"):
        approvals.approve(2, token_of(approvals, "ann"), "I like it", AT)
    with pytest.raises(ApprovalRefused):
        approvals.approve_by_policy(2, POLICY, "gain confirmed", AT)
    assert ledger.state(2) == State.JUDGED


def test_an_automatic_approval_is_recorded_as_the_policys(approvals: Approvals, ledger: SqlLedger, trail: SqlAudit) -> None:
    fact = approvals.approve_by_policy(1, POLICY, "gain confirmed over days", AT)

    assert (fact.by, fact.body["policy_sha256"]) == ("policy:999999999999", POLICY)
    assert (trail.entries()[-1].actor, ledger.state(1)) == ("policy:999999999999", State.APPROVED)


def test_an_unknown_version_cannot_be_approved(approvals: Approvals) -> None:
    with pytest.raises(UnknownVersion):
        approvals.approve(9, token_of(approvals, "ann"), "-", AT)
    with pytest.raises(UnknownVersion):
        approvals.approve_by_policy(9, POLICY, "-", AT)


def test_a_token_is_for_its_owners_eyes_and_the_database_never_sees_it(approvals: Approvals, tmp_path: Path) -> None:
    path = approvals.enrol("ann", Duty.APPROVER, at=AT, by="operator")
    token = read_token(path)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(bytes.fromhex(token)) == 32
    assert approvals.authenticate(token) == Identity("ann", Duty.APPROVER)
    assert all(token.encode() not in file.read_bytes() for file in tmp_path.glob("*.*") if file.is_file())


def test_enrolling_again_keeps_the_token_and_adds_no_entry(approvals: Approvals, trail: SqlAudit) -> None:
    token = token_of(approvals, "ann")
    before = len(trail.entries())

    assert token_of(approvals, "ann") == token
    assert len(trail.entries()) == before
    with pytest.raises(UsageError, match="enrolled as approver"):
        approvals.enrol("ann", Duty.TRAINER, at=AT, by="operator")


def test_enrolling_completes_what_a_killed_process_left(approvals: Approvals, tmp_path: Path) -> None:
    """The file was written, the entry was not."""
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "ann.token").write_text("ab" * 32 + "\n", encoding="ascii")

    assert approvals.authenticate(token_of(approvals, "ann")).name == "ann"


def test_a_revoked_token_is_worth_nothing_and_a_new_one_is_new(approvals: Approvals) -> None:
    token = token_of(approvals, "ann")
    approvals.revoke("ann", at=AT, by="operator", why="left the team")

    with pytest.raises(ApprovalRefused):
        approvals.authenticate(token)
    renewed = token_of(approvals, "ann")
    assert renewed != token
    assert approvals.authenticate(renewed).name == "ann"


@pytest.mark.parametrize("name", ["", "../ann", "Ann", "a b", "policy:1"])
def test_a_name_that_could_be_mistaken_is_no_name(approvals: Approvals, name: str) -> None:
    with pytest.raises(UsageError, match="is no name"):
        approvals.enrol(name, Duty.APPROVER, at=AT, by="operator")


def test_a_policy_has_no_credential(approvals: Approvals) -> None:
    with pytest.raises(UsageError, match="no credential"):
        approvals.enrol("auto", Duty.POLICY, at=AT, by="operator")


def test_the_list_of_operators_is_kept_beside_the_tokens(approvals: Approvals, tmp_path: Path) -> None:
    """For the day on which the ledger cannot be asked; a token that was not enrolled, or is another one by now, is none of an operator."""
    keys = tmp_path / "keys"
    assert not is_listed_operator(keys, "olga")
    for name, role in (("olga", Duty.OPERATOR), ("otto", Duty.OPERATOR), ("ann", Duty.APPROVER), ("rita", Duty.REPORTER)):
        approvals.enrol(name, role, at=AT, by="operator")
    approvals.revoke("otto", at=AT, by="operator", why="left the team")
    for name in ("otto", "stranger"):
        (keys / f"{name}.token").write_text("ab" * 32 + "\n", encoding="ascii")

    listed = [name for name in ("olga", "otto", "ann", "rita", "stranger", "nobody") if is_listed_operator(keys, name)]

    assert listed == ["olga"]
    (keys / "olga.token").write_text("ab" * 32 + "\n", encoding="ascii")
    assert not is_listed_operator(keys, "olga")
    (keys / "operators.json").write_text("[")
    assert not is_listed_operator(keys, "olga")


def test_an_operator_may_become_a_reporter_and_not_the_other_way(approvals: Approvals) -> None:
    token = token_of(approvals, "feed", Duty.OPERATOR)
    assert token_of(approvals, "feed", Duty.REPORTER) == token
    assert approvals.authenticate(token).role == Duty.REPORTER
    with pytest.raises(UsageError, match="enrolled as reporter"):
        approvals.enrol("feed", Duty.OPERATOR, at=AT, by="operator")
