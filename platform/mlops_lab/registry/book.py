"""The book of accepted snapshots, kept in the ledger: an acceptance and its audit entry are one transaction."""

from collections.abc import Sequence

from mlops_lab.data.snapshot import Snapshot
from mlops_lab.events import Message
from mlops_lab.registry.port import Ledger


class LedgerBook:
    """Implements `data.SnapshotBook`. The batch's name is the subject, so a name is accepted once."""

    def __init__(self, ledger: Ledger, by: str) -> None:
        self._ledger = ledger
        self._by = by

    def record(self, snapshot: Snapshot) -> Snapshot:
        for known in self.all():
            if known.batch == snapshot.batch:
                return known
        accepted = Message("SnapshotAccepted", snapshot.accepted_at, snapshot.batch, {"snapshot": snapshot.id, "rows": snapshot.rows})
        self._ledger.record_snapshot(snapshot.to_dict(), snapshot.accepted_at, self._by, emit=(accepted,))
        return next(known for known in self.all() if known.batch == snapshot.batch)

    def all(self) -> Sequence[Snapshot]:
        return [Snapshot.from_dict(body) for body in self._ledger.snapshots()]
