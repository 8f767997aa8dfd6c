"""What the data stage needs from outside: tables that keep versions, and a book in which acceptance is recorded."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import pandas as pd

from mlops_lab.data.schema import TableSchema
from mlops_lab.data.snapshot import Snapshot

Operator = Literal["=", "!=", "<", "<=", ">", ">=", "in", "not in"]
Filter = tuple[str, Operator, object]
"""Column, operator, value. Several filters are joined by "and"; the value of "in" is a collection."""


@dataclass(frozen=True, slots=True, order=True)
class Pin:
    """A version of a table that something names and that clean-up therefore never removes."""

    table: str
    version: int
    by: str


class Tables(Protocol):
    """Append-only tables with versions. Kept by `on_delta.py`, on disk or on an object store."""

    def declare(self, *schemas: TableSchema) -> None:
        """Say what tables look like. Opens nothing; a table is made by its first append.

        Raises SchemaRefused if a name was declared before with other columns.
        """
        ...

    def append(self, table: str, frame: pd.DataFrame, app_id: str, app_version: int, *, after: int | None = None) -> int:
        """Add rows once per (app_id, app_version), whatever dies and however often it is repeated.

        Args:
            table: A declared table.
            frame: Exactly its columns. No rows is allowed: then only the progress is written.
            app_id: Who appends, such as `batch:<digest>` or `ship:<name of a log>`.
            app_version: Its progress, growing, 0 to 2**63 - 1. Not behind what was written before: then nothing is written.
            after: Append only if this is the progress so far (0: never wrote); None: whatever it is.

        Returns:
            The table's version that holds the rows.

        Raises:
            SchemaRefused: The frame does not fit; nothing was written.
            ProgressMoved: The progress is another than `after`; nothing was written.
            StoreUnreachable: The store does not answer or refuses; repeat the call, rows are not doubled.
        """
        ...

    def progress(self, table: str, app_id: str) -> int | None:
        """The last `app_version` that was written by `app_id`, None if it never wrote."""
        ...

    def read(
        self, table: str, *, version: int | None = None, filters: Sequence[Filter] = (), columns: Sequence[str] | None = None
    ) -> pd.DataFrame:
        """Rows of a table as of a version (None: now), unordered. A declared table that nobody wrote to is empty.

        Raises UnknownName for a table or a column nobody declared, NotEnoughData for a version that is not there.
        """
        ...

    def version(self, table: str) -> int:
        """The present version, 0 for a table nobody wrote to."""
        ...

    def pin(self, table: str, version: int, by: str) -> None:
        """Keep a version for good. Repeating it changes nothing. Raises NotEnoughData for a version that is not there."""
        ...

    def pins(self) -> tuple[Pin, ...]:
        """All pins."""
        ...


class SnapshotBook(Protocol):
    """Where acceptance is recorded: an atomic, ordered, append-only list, one entry per batch name.

    The entry is what makes the rows of a batch count, so a ledger keeps it in one transaction with its audit entry.
    """

    def record(self, snapshot: Snapshot) -> Snapshot:
        """Record an acceptance unless the batch's name is recorded already; the entry that stands is returned."""
        ...

    def all(self) -> Sequence[Snapshot]:
        """Every entry in the order of recording."""
        ...


class Passed(Protocol):
    """What acceptance needs to see of a verdict. `mlops_lab.gates.Verdict` is one."""

    @property
    def accepted(self) -> bool: ...

    @property
    def digest(self) -> str: ...


class FeatureLike(Protocol):
    """What the table of predictions needs to know of a feature. `mlops_lab.features.view.Feature` is one."""

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> str:
        """`number` or `category`."""
        ...
