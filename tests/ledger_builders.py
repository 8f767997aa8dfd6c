"""A ledger in the database of a home, versions for it, and the usual way of a version to the traffic."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from databases import database_of
from mlops_lab.audit import HeadsFile
from mlops_lab.audit.on_sql import SqlAudit, open_engine
from mlops_lab.clock import FixedClock
from mlops_lab.events import Message
from mlops_lab.events.on_sql import SqlOutbox
from mlops_lab.registry import Assignment, ModelVersion, Role
from mlops_lab.registry.on_sql import SqlLedger

AT = datetime(2013, 4, 8, tzinfo=UTC)
DAY = timedelta(days=1)
MODEL = "flight-delay"


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


def try_out(ledger: SqlLedger, role: Role, number: int, weight: float = 0.1, kind: str = "promotion") -> Assignment:
    now = ledger.current(role)
    return ledger.assign(role, number, replacing=now.id if now else None, kind=kind, by="operator", why="to compare", at=AT, weight=weight)
