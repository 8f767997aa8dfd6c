"""The online table in this process: the twin of Feast's, for labs and tests that run no store."""

from collections.abc import Mapping, Sequence

from mlops_lab.features.rows import Progress, Reading, RowRef


class MemoryRows:
    """Implements `RowReader` and `RowWriter`. It forgets with the process, as a store that keeps nothing on disk."""

    def __init__(self) -> None:
        self.held: dict[RowRef, bytes] = {}
        self.said: Progress | None = None

    def read(self, wanted: Sequence[RowRef]) -> Reading:
        return Reading([self.held.get(ref) for ref in wanted], self.said)

    def write(self, rows: Mapping[RowRef, bytes], progress: Progress) -> None:
        self.held.update(rows)
        self.said = progress

    def progress(self) -> Progress | None:
        return self.said
