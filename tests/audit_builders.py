"""An audit trail in the database of a home, with a key of its own."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from databases import database_of
from mlops_lab.audit import HeadsFile, digest_of
from mlops_lab.audit.on_sql import SqlAudit, open_engine
from mlops_lab.clock import FixedClock

AT = datetime(2013, 4, 8, tzinfo=UTC)
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


def a_trail(home: Path, key: Ed25519PrivateKey = KEY) -> SqlAudit:
    engine = open_engine(database_of(home))
    return SqlAudit(engine, HeadsFile(home / "second" / "heads.jsonl"), key, FixedClock(datetime(2026, 1, 5, 9, tzinfo=UTC)))


def record(trail: SqlAudit, number: int = 1) -> None:
    with trail.recording(
        actor="ann",
        action="ModelPromoted",
        subject=f"flight-delay/{number}",
        reason=f"gain {number}",
        at=AT + timedelta(days=number),
        digests={"scorer": digest_of(number)},
    ):
        pass


def a_trail_of(home: Path, entries: int) -> SqlAudit:
    trail = a_trail(home)
    for number in range(1, entries + 1):
        record(trail, number)
    return trail
