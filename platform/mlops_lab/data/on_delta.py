"""The tables, on Delta Lake: a folder on disk or an object store, readable by every engine that speaks Delta."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pads
from deltalake import CommitProperties, DeltaTable, Schema, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from mlops_lab.data.port import Filter, Pin
from mlops_lab.data.schema import Column, TableSchema
from mlops_lab.errors import NotEnoughData, ProgressMoved, SchemaRefused, StoreUnreachable, UnknownName

_KEEP_THE_LOG = {
    "delta.logRetentionDuration": "interval 36500 days",  # a log that expires takes the versions a training set names with it
    "delta.enableExpiredLogCleanup": "false",
    "delta.checkpointInterval": "50",
}
_PINS = TableSchema("pins", (Column("table", "text", False), Column("version", "integer", False), Column("by", "text", False)))
_ATTEMPTS = 8
_OPERATORS: dict[str, Callable[[pads.Expression, object], pads.Expression]] = {
    "=": lambda column, value: column == value,
    "!=": lambda column, value: column != value,
    "<": lambda column, value: column < value,
    "<=": lambda column, value: column <= value,
    ">": lambda column, value: column > value,
    ">=": lambda column, value: column >= value,
    "in": lambda column, values: column.isin(values),
    "not in": lambda column, values: ~column.isin(values),
}


class DeltaTables:
    """Tables under one root, one folder each. Several processes may append at the same time.

    An append is one Delta commit that carries the writer's progress as an application transaction, so rows and
    progress are there together or not at all; of two writers with the same `app_id` one is refused and looks again.
    """

    def __init__(self, root: Path | str, storage_options: Mapping[str, str] | None = None) -> None:
        self._root = str(root).rstrip("/")
        self._options = dict(storage_options) if storage_options else None
        self._schemas: dict[str, TableSchema] = {_PINS.name: _PINS}

    def declare(self, *schemas: TableSchema) -> None:
        for schema in schemas:
            if self._schemas.setdefault(schema.name, schema) != schema:
                raise SchemaRefused(f"Table '{schema.name}' was declared with other columns before.", "declare a table once.")

    def append(self, table: str, frame: pd.DataFrame, app_id: str, app_version: int, *, after: int | None = None) -> int:
        schema = self._schema(table)
        rows = schema.rows(frame)
        marked = CommitProperties(app_transactions=[Transaction(app_id, app_version)])
        for _ in range(_ATTEMPTS):
            there = self._open(table) or self._create(schema)
            if there.schema() != Schema.from_arrow(schema.arrow()):
                self._widen(there, schema)
                continue
            written = there.transaction_version(app_id)
            if written is not None and written >= app_version:
                return int(there.version())
            if after is not None and after != (written or 0):
                raise ProgressMoved.of(table, app_id, after, written or 0)
            try:
                write_deltalake(there, rows, mode="append", commit_properties=marked)
            except CommitFailedError:
                continue  # somebody else committed under this app_id or changed the table: look again what is there
            except (DeltaError, OSError) as error:
                raise StoreUnreachable.at(f"{self._root}/{table}", _first_line(error)) from error
            return int(there.version())
        raise StoreUnreachable.at(f"{self._root}/{table}", f"{_ATTEMPTS} commits in a row lost against other writers")

    def progress(self, table: str, app_id: str) -> int | None:
        self._schema(table)
        there = self._open(table)
        return None if there is None else there.transaction_version(app_id)

    def read(
        self, table: str, *, version: int | None = None, filters: Sequence[Filter] = (), columns: Sequence[str] | None = None
    ) -> pd.DataFrame:
        schema = self._schema(table)
        for name in [*(columns or ()), *(column for column, _, _ in filters)]:
            if name not in schema.names:
                raise UnknownName.of(f"column of table '{table}'", name, schema.names)
        there = self._open(table, version)
        if there is None:
            empty: pd.DataFrame = schema.arrow().empty_table().to_pandas()
            return empty[list(columns)] if columns is not None else empty
        condition: pads.Expression | None = None
        for column, operator, value in filters:
            kind = schema.arrow().field(column).type
            # With its type: an empty list has none of its own, and a wrong one is said here and not by the store.
            typed = pa.array(list(value), kind) if operator in ("in", "not in") else pa.scalar(value, kind)  # type: ignore[call-overload]
            part = _OPERATORS[operator](pads.field(column), typed)
            condition = part if condition is None else condition & part
        try:
            dataset = there.to_pyarrow_dataset()
            # a version of before a column was added is read with gaps in it
            dataset = dataset.replace_schema(schema.arrow()) if set(dataset.schema.names) < set(schema.names) else dataset
            found = dataset.to_table(columns=list(columns) if columns is not None else None, filter=condition)
        except (DeltaError, OSError, pa.ArrowException) as error:
            raise StoreUnreachable.at(f"{self._root}/{table}", _first_line(error)) from error
        frame: pd.DataFrame = found.to_pandas()
        return frame

    def version(self, table: str) -> int:
        self._schema(table)
        there = self._open(table)
        return 0 if there is None else int(there.version())

    def pin(self, table: str, version: int, by: str) -> None:
        self._schema(table)
        if self._open(table, version) is None and version != 0:
            raise _no_version(table, version)
        row = pd.DataFrame({"table": [table], "version": [version], "by": [by]})
        self.append(_PINS.name, row, app_id=f"pin:{table}@{version}:{by}", app_version=1)

    def pins(self) -> tuple[Pin, ...]:
        rows = self.read(_PINS.name)
        return tuple(sorted(Pin(str(t), int(v), str(by)) for t, v, by in rows[["table", "version", "by"]].itertuples(index=False)))

    def tidy(self, table: str, keep: timedelta = timedelta(days=7)) -> int:
        """Join small files and delete those that no version needs which is pinned, present or younger than `keep`.

        Returns:
            How many files were deleted. Other versions cannot be read any more.
        """
        self._schema(table)
        there = self._open(table)
        if there is None:
            return 0
        pinned = sorted({pin.version for pin in self.pins() if pin.table == table})
        hours = math.ceil(keep.total_seconds() / 3600)
        try:
            there.optimize.compact()
            return len(there.vacuum(hours, dry_run=False, enforce_retention_duration=False, keep_versions=pinned or None))
        except (DeltaError, OSError) as error:
            raise StoreUnreachable.at(f"{self._root}/{table}", _first_line(error)) from error

    def _schema(self, table: str) -> TableSchema:
        if table not in self._schemas:
            raise UnknownName.of("table", table, self._schemas)
        return self._schemas[table]

    def _open(self, table: str, version: int | None = None) -> DeltaTable | None:
        """The table as of a version; None where nobody has written to it yet."""
        try:
            there = DeltaTable(f"{self._root}/{table}", storage_options=self._options)
            if version is not None and version > there.version():
                raise _no_version(table, version)
            if version is not None:
                there.load_as_version(version)
        except TableNotFoundError:
            return None
        except (DeltaError, OSError) as error:
            raise StoreUnreachable.at(f"{self._root}/{table}", _first_line(error)) from error
        return there

    def _widen(self, there: DeltaTable, schema: TableSchema) -> None:
        """Give a table of an earlier release the columns that came since, behind its own; its rows have gaps in them.

        Raises:
            SchemaRefused: It differs in another way: a release may add columns that may have gaps, and nothing else.
        """
        has, wanted = there.schema().fields, Schema.from_arrow(schema.arrow()).fields
        added = wanted[len(has) :]
        if wanted[: len(has)] != has or not added or not all(field.nullable for field in added):
            raise SchemaRefused(
                f"Table '{schema.name}' at {self._root} has other columns than its schema declares.",
                "start a new table under another name.",
            )
        try:
            there.alter.add_columns(added)
        except CommitFailedError:
            return  # somebody else changed the table: look again what is there
        except (DeltaError, OSError) as error:
            raise StoreUnreachable.at(f"{self._root}/{schema.name}", _first_line(error)) from error

    def _create(self, schema: TableSchema) -> DeltaTable:
        try:
            return DeltaTable.create(
                f"{self._root}/{schema.name}",
                schema.arrow(),
                mode="ignore",
                name=schema.name,
                configuration=_KEEP_THE_LOG | _statistics(schema),
                storage_options=self._options,
            )
        except (DeltaError, OSError) as error:
            raise StoreUnreachable.at(f"{self._root}/{schema.name}", _first_line(error)) from error


def _statistics(schema: TableSchema) -> dict[str, str]:
    """Minimum and maximum per file for what reads select by: moments and batches. For all columns they cost half of a read."""
    selective = [column.name for column in schema.columns if column.type == "moment" or column.name.startswith("_")]
    return {"delta.dataSkippingStatsColumns": ",".join(selective)} if selective else {"delta.dataSkippingNumIndexedCols": "0"}


def _no_version(table: str, version: int) -> NotEnoughData:
    return NotEnoughData(f"Table '{table}' has no version {version}.", "see `lab history` for the versions there are.")


def _first_line(error: BaseException) -> str:
    """What happened, and why as the innermost cause says: behind an object store there is a list of causes, then the server's XML."""
    text = re.sub(r"\x1b\[\d*m", "", str(error)).strip()
    first, *causes = [line.strip(" \u21b3") for line in text.split("\n") if line.strip()]
    code = re.search(r"<Code>(\w+)</Code>", text)
    why = code[1] if code else causes[-1] if causes and "\u21b3" in text else ""
    return f"{first}: {why}" if why else first
