"""The audit trail in an SQL database, its heads in a file somewhere else."""

import json
import logging
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from sqlalchemy import Column, Connection, Engine, Integer, RowMapping, Table, Text, select

from mlops_lab.audit.chain import Break, first_break, link
from mlops_lab.audit.checkpoint import Head, HeadsFile, seal
from mlops_lab.audit.entry import AuditEntry, canonical, digest_of
from mlops_lab.clock import Clock, from_iso, iso
from mlops_lab.errors import AuditBroken, RegistryUnreachable, StoreUnreachable, UsageError
from mlops_lab.events import Message
from mlops_lab.events.on_sql import METADATA, open_engine, put, reading, writing

__all__ = ["AUDIT", "SqlAudit", "SqlRecording", "open_engine", "recorded_rows"]

log = logging.getLogger(__name__)

AUDIT = Table(
    "audit_entry",
    METADATA,
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("at", Text, nullable=False, comment="event time"),
    Column("recorded_at", Text, nullable=False, comment="wall time"),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False, index=True),
    Column("reason", Text, nullable=False),
    Column("digests", Text, nullable=False, comment="JSON object, SHA-256 by name"),
    Column("previous", Text, nullable=False),
    Column("hash", Text, nullable=False, unique=True),
    Column("seal", Text, nullable=False, comment="Ed25519 over seq and hash, hexadecimal"),
)


class SqlRecording:
    """One open transaction: write through `connection`, then leave the `with` block.

    Attributes:
        connection: What is written through it counts only together with the entry.
        seq: The number the entry will have.
        at: Event time.
        recorded_at: Wall time, the same in the entry and in every row written with it.
        digests: SHA-256 by name; what is added here is part of the entry.
    """

    def __init__(self, connection: Connection, seq: int, at: datetime, recorded_at: datetime, digests: Mapping[str, str]) -> None:
        self.connection = connection
        self.seq = seq
        self.at = at
        self.recorded_at = recorded_at
        self.digests = dict(digests)

    def emit(self, topic: str, message: Message) -> None:
        """Put a message into the outbox, in this transaction; one whose id was sent before is left out."""
        row = put(self.connection, topic, message)
        if row is not None:
            self.digests[f"row:outbox/{row['position']}"] = digest_of(row)


class SqlAudit:
    """The `AuditTrail` of a database. Safe for several processes and threads: writers queue up, the chain never forks.

    Args:
        engine: From `open_engine`.
        heads: The second place; best on another disk, with other permissions.
        key: Seals each entry.
        clock: Wall time.
        trusted: Public keys of earlier and later writers, when the key was changed; gone through anew each time.
    """

    def __init__(
        self, engine: Engine, heads: HeadsFile, key: Ed25519PrivateKey, clock: Clock, trusted: Iterable[Ed25519PublicKey] = ()
    ) -> None:
        self.engine = engine
        self.clock = clock
        self._heads = heads
        self._key = key
        self._others = trusted
        self._busy = threading.local()

    @contextmanager
    def recording(
        self, *, actor: str, action: str, subject: str, reason: str, at: datetime, digests: Mapping[str, str] | None = None
    ) -> Iterator[SqlRecording]:
        """See `AuditTrail.recording`. One at a time per thread: a record inside a record would wait for itself."""
        if getattr(self._busy, "subject", None):
            raise UsageError(f"A record about '{self._busy.subject}' is still open in this thread.", "close it before the next is opened.")
        self._busy.subject = subject or "nothing"
        head: Head | None = None
        try:
            with writing(self.engine) as connection:
                last = _last(connection)
                recording = SqlRecording(connection, last.seq + 1 if last else 1, at, self.clock.now(), digests or {})
                yield recording
                entry = link(
                    last,
                    at=at,
                    recorded_at=recording.recorded_at,
                    actor=actor,
                    action=action,
                    subject=subject,
                    reason=reason,
                    digests=recording.digests,
                )
                head = seal(entry.seq, entry.hash, self._key)
                connection.execute(AUDIT.insert().values(_row(entry, head)))
        except RegistryUnreachable:
            if head is None or not self._holds(head):
                raise
        finally:
            self._busy.subject = None
        assert head is not None
        try:
            self._keep_heads(head)
        except (StoreUnreachable, RegistryUnreachable) as error:
            # The record stands and is sealed; its head follows with the next record, and `verify` insists on it.
            log.warning("audit.head_delayed", extra={"seq": head.seq, "why": error.what})

    def _holds(self, head: Head) -> bool:
        """Whether a record was committed although its answer was lost: a server may go between the commit and its receipt.

        Asked with the writers' lock, so that the former transaction is over. Raises RegistryUnreachable where nobody can say.
        """
        with writing(self.engine) as connection:
            return connection.execute(select(AUDIT.c.hash).where(AUDIT.c.seq == head.seq)).scalar() == head.hash

    @property
    def _trusted(self) -> tuple[Ed25519PublicKey, ...]:
        return (self._key.public_key(), *self._others)

    def entries(self) -> Sequence[AuditEntry]:
        """All entries, in order. Raises AuditBroken where one cannot even be read."""
        with reading(self.engine) as connection:
            return _readable_entries(connection)

    def verify(self) -> Break | None:
        """The first entry that does not hold, or None.

        First the heads are added that a killed process left out, each only if its entry carries a valid seal.

        Raises:
            StoreUnreachable: The second place cannot be read or written: nothing is proved then.
        """
        newest = self._newest_head()
        if newest and newest.signed_by_one_of(self._trusted):
            self._keep_heads(newest)
        heads = self._heads.read()  # before the entries: whoever writes meanwhile may only be ahead of it
        entries, unreadable = self._read()
        if unreadable:
            return first_break(entries, heads[: len(entries)], self._trusted) or Break(len(entries) + 1, "edited: it cannot be read.")
        return first_break(entries, heads, self._trusted)

    def _read(self) -> tuple[list[AuditEntry], int | None]:
        with reading(self.engine) as connection:
            return _entries(connection)

    def _newest_head(self) -> Head | None:
        with reading(self.engine) as connection:
            row = connection.execute(select(AUDIT.c.seq, AUDIT.c.hash, AUDIT.c.seal).order_by(AUDIT.c.seq.desc()).limit(1)).first()
        return Head(row.seq, row.hash, row.seal) if row else None

    def _keep_heads(self, newest: Head) -> None:
        self._heads.append_missing(newest.seq, lambda last: [newest] if last == newest.seq - 1 else self._sealed_behind(last, newest.seq))

    def _sealed_behind(self, last: int, upto: int) -> list[Head]:
        """The heads of (last, upto], up to the first whose seal does not hold: an entry we never wrote gets no head."""
        wanted = select(AUDIT.c.seq, AUDIT.c.hash, AUDIT.c.seal).where(AUDIT.c.seq > last, AUDIT.c.seq <= upto).order_by(AUDIT.c.seq)
        with reading(self.engine) as connection:
            found = [Head(row.seq, row.hash, row.seal) for row in connection.execute(wanted)]
        heads: list[Head] = []
        for seq, head in enumerate(found, start=last + 1):
            if head.seq != seq or not head.signed_by_one_of(self._trusted):
                log.error("audit.head_refused", extra={"seq": seq})
                break
            heads.append(head)
        return heads


def recorded_rows(connection: Connection) -> dict[str, str]:
    """The digest of every row that was ever recorded, by its name in the audit (`row:fact/12`).

    Takes the connection on which the rows themselves are read, so that both are of the same moment. Raises AuditBroken.
    """
    pairs = (pair for entry in _readable_entries(connection) for pair in entry.digests.items())
    return {name: digest for name, digest in pairs if name.startswith("row:")}


def _row(entry: AuditEntry, head: Head) -> dict[str, Any]:
    return {
        "seq": entry.seq,
        "at": iso(entry.at),
        "recorded_at": iso(entry.recorded_at),
        "actor": entry.actor,
        "action": entry.action,
        "subject": entry.subject,
        "reason": entry.reason,
        "digests": canonical(dict(entry.digests)),
        "previous": entry.previous,
        "hash": entry.hash,
        "seal": head.signature,
    }


def _entry(row: RowMapping) -> AuditEntry | None:
    """Read a row; None where it is not exactly what we would write."""
    try:
        at, recorded_at, digests = from_iso(row["at"]), from_iso(row["recorded_at"]), json.loads(row["digests"])
        entry = AuditEntry(**{**row, "at": at, "recorded_at": recorded_at, "digests": digests})
        return entry if _row(entry, Head(entry.seq, entry.hash, entry.seal)) == dict(row) else None
    except (ValueError, TypeError):
        return None


def _entries(connection: Connection) -> tuple[list[AuditEntry], int | None]:
    """The entries up to the first that is not as we write them, and the seq of that one."""
    entries: list[AuditEntry] = []
    for row in connection.execute(select(AUDIT).order_by(AUDIT.c.seq)).mappings():
        entry = _entry(row)
        if entry is None:
            return entries, int(row["seq"])
        entries.append(entry)
    return entries, None


def _readable_entries(connection: Connection) -> list[AuditEntry]:
    entries, unreadable = _entries(connection)
    if unreadable:
        raise AuditBroken.at(unreadable)
    return entries


def _last(connection: Connection) -> AuditEntry | None:
    row = connection.execute(select(AUDIT).order_by(AUDIT.c.seq.desc()).limit(1)).mappings().first()
    if row is None:
        return None
    entry = _entry(row)
    if entry is None:
        raise AuditBroken.at(int(row["seq"]))
    return entry
