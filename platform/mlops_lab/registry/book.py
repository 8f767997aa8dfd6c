"""The book of accepted snapshots, kept in the ledger: an acceptance and its audit entry are one transaction."""

from collections.abc import Sequence

from mlops_lab.data.snapshot import Snapshot
from mlops_lab.events import Message
from mlops_lab.registry.ledger import SNAPSHOT
from mlops_lab.registry.port import Ledger


class LedgerBook:
    """Implements `data.SnapshotBook`. The batch's name is the subject, so of two that race for a name one stands."""

    def __init__(self, ledger: Ledger, by: str) -> None:
        self._ledger = ledger
        self._by = by

    def record(self, snapshot: Snapshot) -> Snapshot:
        accepted = Message("SnapshotAccepted", snapshot.accepted_at, snapshot.batch, {"snapshot": snapshot.id, "rows": snapshot.rows})
        stands = self._ledger.record(
            SNAPSHOT, snapshot.batch, snapshot.to_dict(), at=snapshot.accepted_at, by=self._by, why="accepted by the gate", emit=(accepted,)
        )
        return Snapshot.from_dict(stands.body)

    def all(self) -> Sequence[Snapshot]:
        return [Snapshot.from_dict(body) for body in self._ledger.snapshots()]
