"""The accepted history: batches go in whole or not at all, and are read back as of any acceptance."""

from collections.abc import Sequence
from datetime import datetime

import pandas as pd

from mlops_lab.data.port import Filter, Passed, SnapshotBook, Tables
from mlops_lab.data.schema import Column, TableSchema
from mlops_lab.data.snapshot import Batch, Snapshot
from mlops_lab.errors import BatchConflict, NotEnoughData, SnapshotRefused

BATCH_COLUMN = "_batch"


class Snapshots:
    """Rows are appended first and carry their batch's digest; the record in the book makes them count, all tables at once.

    A crash in between leaves rows that no reader sees; sending the batch again completes it.
    """

    def __init__(self, tables: Tables, book: SnapshotBook, schemas: Sequence[TableSchema]) -> None:
        """Declare the tables of a batch.

        Args:
            tables: Where rows go.
            book: Where acceptance is recorded.
            schemas: One per table a batch may hold.
        """
        self._tables = tables
        self._book = book
        self._schemas = {schema.name: schema for schema in schemas}
        tables.declare(*(schema.plus(Column(BATCH_COLUMN, "text", nullable=False)) for schema in schemas))

    def accept(self, batch: Batch, verdict: Passed, at: datetime) -> Snapshot:
        """Take a batch in. The same content again changes nothing and returns the snapshot that stands.

        Args:
            batch: What arrived.
            verdict: The gate's, about this very content.
            at: Event time.

        Raises:
            SnapshotRefused: The verdict refuses, or speaks of other content.
            BatchConflict: The name was accepted with other content.
            SchemaRefused: A table does not fit its schema; the batch does not count.
        """
        if not verdict.accepted or verdict.digest != batch.digest:
            why = "its verdict refuses it" if not verdict.accepted else "its verdict is about other content"
            raise SnapshotRefused(
                f"Batch '{batch.name}' was not taken in: {why}.", "pass it through the gate, and put what is refused into quarantine."
            )
        known = self._standing(batch)
        if known is not None:
            return known
        frames = {name: frame.assign(**{BATCH_COLUMN: batch.digest}) for name, frame in sorted(batch.tables.items())}
        versions = {name: self._tables.append(name, frame, f"batch:{batch.digest}", 1) for name, frame in frames.items()}
        recorded = self._book.record(
            Snapshot(
                id=batch.digest[:12],
                batch=batch.name,
                digest=batch.digest,
                table_versions=versions,
                rows=batch.rows,
                start=batch.start,
                end=batch.end,
                accepted_at=at,
            )
        )
        if recorded.digest != batch.digest:
            raise BatchConflict.of(batch.name, recorded.digest, batch.digest)
        return recorded

    def all(self) -> tuple[Snapshot, ...]:
        """Every accepted batch in the order of acceptance."""
        return tuple(self._book.all())

    def latest(self, before: datetime | None = None) -> Snapshot:
        """The last one accepted, at or before an event time. Raises NotEnoughData where there is none."""
        found = [snapshot for snapshot in self._book.all() if before is None or snapshot.accepted_at <= before]
        if not found:
            raise NotEnoughData("No batch was accepted yet.", "run `lab ingest` first.")
        return found[-1]

    def read(
        self,
        table: str,
        as_of: Snapshot | None = None,
        *,
        filters: Sequence[Filter] = (),
        columns: Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """The rows of every batch accepted up to and with a snapshot (None: the latest), unordered, without the batch column.

        The answer for one snapshot is the same for ever: tables only grow, and what came later carries another digest.
        """
        accepted: Filter = (BATCH_COLUMN, "in", [snapshot.digest for snapshot in self._up_to(as_of)])
        wanted = list(self._schemas[table].names) if columns is None and table in self._schemas else columns
        return self._tables.read(table, filters=[accepted, *filters], columns=wanted)

    def table_version(self, table: str, as_of: Snapshot | None = None) -> int:
        """The version of a table that holds all rows counted as of a snapshot: what lineage names and pins. 0 where there is none."""
        return max((snapshot.table_versions.get(table, 0) for snapshot in self._up_to(as_of)), default=0)

    def _up_to(self, as_of: Snapshot | None) -> list[Snapshot]:
        known = list(self._book.all())
        if as_of is None:
            return known
        places = [place for place, snapshot in enumerate(known) if snapshot.digest == as_of.digest]
        if not places:
            raise NotEnoughData(f"Snapshot {as_of.id} is not among the accepted ones.", "see `lab history`.")
        return known[: places[0] + 1]

    def _standing(self, batch: Batch) -> Snapshot | None:
        known = self._book.all()
        for snapshot in known:
            if snapshot.digest == batch.digest:
                return snapshot
        for snapshot in known:
            if snapshot.batch == batch.name:
                raise BatchConflict.of(batch.name, snapshot.digest, batch.digest)
        return None
