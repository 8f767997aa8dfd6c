"""A book of acceptance for one process: tests and labs. The platform's own is the ledger's."""

from collections.abc import Sequence
from threading import Lock

from mlops_lab.data.snapshot import Snapshot


class MemoryBook:
    """Keeps `SnapshotBook` in a list."""

    def __init__(self) -> None:
        self._entries: dict[str, Snapshot] = {}
        self._lock = Lock()

    def record(self, snapshot: Snapshot) -> Snapshot:
        with self._lock:
            return self._entries.setdefault(snapshot.batch, snapshot)

    def all(self) -> Sequence[Snapshot]:
        with self._lock:
            return tuple(self._entries.values())
