"""The audit trail as the stages see it: open a record, write what it is about, close it; all of it counts or none."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol

from mlops_lab.audit.chain import Break
from mlops_lab.audit.entry import AuditEntry
from mlops_lab.events import Message


class Recording(Protocol):
    """One open transaction of the trail."""

    digests: dict[str, str]
    """SHA-256 by name; what is added before the end is part of the entry."""

    def emit(self, topic: str, message: Message) -> None:
        """Send a message if, and only if, this record comes to be."""
        ...


class AuditTrail(Protocol):
    """Where records are kept. Kept by `on_sql.py`: SQLite in a home, Postgres by its address."""

    def recording(
        self, *, actor: str, action: str, subject: str, reason: str, at: datetime, digests: Mapping[str, str] | None = None
    ) -> AbstractContextManager[Recording]:
        """Open a record; on exit the entry is written together with all that was written inside.

        An exception inside undoes everything: no entry, no rows, no messages.

        Raises:
            EvidenceMissing: Nobody is named as actor, or no action or subject.
            RegistryUnreachable: The database does not answer, or stays locked for ten seconds.
        """
        ...

    def entries(self) -> Sequence[AuditEntry]:
        """All entries, in order."""
        ...

    def verify(self) -> Break | None:
        """The first entry that does not hold, or None."""
        ...
