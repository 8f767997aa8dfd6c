"""What columns a table has, and the strict way of a frame into it: strangers, gaps and wrong types are refused."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import pandas as pd
import pyarrow as pa

from mlops_lab.errors import SchemaRefused

ColumnType = Literal["text", "integer", "number", "flag", "moment"]
"""text: str · integer: 64 bit · number: float64 · flag: bool · moment: microseconds, aware, UTC."""

COLUMN_TYPES: tuple[ColumnType, ...] = ("text", "integer", "number", "flag", "moment")

_ARROW: dict[ColumnType, pa.DataType] = {
    "text": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "flag": pa.bool_(),
    "moment": pa.timestamp("us", tz="UTC"),
}


@dataclass(frozen=True, slots=True)
class Column:
    """One column. A column that may have gaps is `nullable`; an integer one with gaps is read back as float64."""

    name: str
    type: ColumnType
    nullable: bool = True


@dataclass(frozen=True, slots=True)
class TableSchema:
    """The columns of one table, in order. Names are unique."""

    name: str
    columns: tuple[Column, ...]

    def __post_init__(self) -> None:
        twice = sorted({c.name for c in self.columns if self.names.count(c.name) > 1})
        if twice:
            raise SchemaRefused(f"Table '{self.name}' would have the column '{twice[0]}' twice.", "give one of the two another name.")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    def plus(self, *columns: Column) -> "TableSchema":
        """The same table with more columns at its end."""
        return TableSchema(self.name, self.columns + columns)

    def arrow(self) -> pa.Schema:
        return pa.schema([pa.field(c.name, _ARROW[c.type], nullable=c.nullable) for c in self.columns])

    def rows(self, frame: pd.DataFrame) -> pa.Table:
        """The frame as rows of this table.

        Args:
            frame: Exactly the columns of the schema, in any order; NaN, NaT and None are gaps.

        Raises:
            SchemaRefused: A column is missing, strange, of another type, or has a gap where none may be.
        """
        self._same_names(frame.columns)
        return pa.Table.from_arrays([self._values(column, frame[column.name]) for column in self.columns], schema=self.arrow())

    def _same_names(self, found: Iterable[object]) -> None:
        names = [str(name) for name in found]
        missing = [name for name in self.names if name not in names]
        strange = [name for name in names if name not in self.names]
        if missing or strange or len(names) != len(self.columns):
            what = [f"lacks {missing}"] if missing else []
            what += [f"has the unknown {strange}"] if strange else []
            raise SchemaRefused(
                f"Rows for table '{self.name}' do not fit: the frame {' and '.join(what) or 'has a column twice'}.",
                "bring exactly the declared columns, or change the schema and start a new table.",
            )

    def _values(self, column: Column, values: "pd.Series[object]") -> pa.Array:
        try:
            if column.type == "moment" and not isinstance(values.dtype, pd.DatetimeTZDtype) and not values.isna().all():
                raise ValueError(f"moments must be aware, found {values.dtype}")
            array = pa.array(values, type=_ARROW[column.type], from_pandas=True)
        except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
            raise SchemaRefused(
                f"Column '{column.name}' of table '{self.name}' is not of type {column.type}: {error}.",
                "convert the column before it is written; nothing was written.",
            ) from error
        if isinstance(array, pa.ChunkedArray):
            array = array.combine_chunks()
        if array.null_count and not column.nullable:
            raise SchemaRefused(
                f"Column '{column.name}' of table '{self.name}' has {array.null_count} gaps and may have none.",
                "repair the source; nothing was written.",
            )
        return array
