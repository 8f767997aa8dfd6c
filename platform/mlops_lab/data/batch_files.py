"""A batch as a folder of `<table>.csv` files: written by a source, read here with types, without judging the values."""

import hashlib
from collections.abc import Collection, Sequence
from datetime import datetime
from pathlib import Path

import pandas as pd

from mlops_lab.data.schema import ColumnType, TableSchema
from mlops_lab.data.snapshot import Batch
from mlops_lab.errors import BatchUnreadable

_REPAIR = "ask the source to send the batch again, whole."
_FLAGS = {"true": True, "false": False}


def read_batch(
    folder: Path, schemas: Sequence[TableSchema], name: str, start: datetime, end: datetime, *, optional: Collection[str] = ()
) -> Batch:
    """Read a folder as a batch.

    Values take the declared types. A column with a value that is not of its type stays text as a whole, and an
    undeclared column stays too: the gate sees what came and names it, nothing is repaired or dropped here.

    Args:
        folder: Holds one `<table>.csv` per schema (UTF-8, a header line, comma) and nothing else; hidden files are ignored.
        schemas: The tables of a batch.
        name: The batch's name.
        start: Event time of its first moment, aware.
        end: Event time behind its last moment.
        optional: Tables that may be missing.

    Raises:
        BatchUnreadable: The folder or a file is missing, superfluous, empty, or not CSV.
    """
    if not folder.is_dir():
        raise BatchUnreadable(
            f"There is no folder {folder} to read batch '{name}' from.", "check the path, or let the source write the batch first."
        )
    present = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    missing = sorted(f"{s.name}.csv" for s in schemas if s.name not in optional and f"{s.name}.csv" not in present)
    strange = sorted(present - {f"{s.name}.csv" for s in schemas})
    if missing or strange:
        what = [f"lacks {', '.join(missing)}"] if missing else []
        what += [f"holds the unexpected {', '.join(strange)}"] if strange else []
        raise BatchUnreadable(f"Batch '{name}' {' and '.join(what)}.", _REPAIR)
    tables = {s.name: _read_table(folder / f"{s.name}.csv", s, name) for s in schemas if f"{s.name}.csv" in present}
    return Batch(name, start, end, tables)


def write_batch(batch: Batch, folder: Path) -> None:
    """Write what `read_batch` reads. Texts that are empty become gaps, and floats keep every digit."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in batch.tables.items():
        frame.to_csv(folder / f"{name}.csv", index=False)


def files_digest(folder: Path) -> str:
    """SHA-256 over names and bytes of a folder's files: the name of a content that cannot be read as tables."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if path.is_file():
            digest.update(f"{path.relative_to(folder)}\n{path.stat().st_size}\n".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _read_table(path: Path, schema: TableSchema, batch: str) -> pd.DataFrame:
    try:
        # Only an empty field is a gap: "NA" is also a name, and "null" from a broken sender must be seen by the gate.
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""], encoding="utf-8", index_col=False)
    except pd.errors.EmptyDataError as error:
        raise BatchUnreadable(f"File {path.name} of batch '{batch}' is empty.", _REPAIR) from error
    except (pd.errors.ParserError, UnicodeDecodeError, OSError, ValueError) as error:
        raise BatchUnreadable(f"File {path.name} of batch '{batch}' is not readable as CSV: {str(error).strip()}.", _REPAIR) from error
    if frame.empty:
        raise BatchUnreadable(f"File {path.name} of batch '{batch}' has a header and no rows.", _REPAIR)
    for column in schema.columns:
        if column.name in frame:
            frame[column.name] = _typed(frame[column.name], column.type)
    return frame


def _typed(texts: "pd.Series[str]", kind: ColumnType) -> "pd.Series[object]":
    """The values in their type, or as they came where one of them is not of it."""
    typed: pd.Series[object]
    try:
        match kind:
            case "text":
                typed = texts.astype(object).where(texts.notna(), None)
            case "number":
                typed = pd.to_numeric(texts).astype("float64")
            case "integer":
                whole = pd.to_numeric(texts)
                typed = whole.astype("int64") if whole.notna().all() and (whole % 1 == 0).all() else whole.astype("float64")
            case "flag":
                lower = texts.str.lower()
                unknown = texts.notna() & ~lower.isin(list(_FLAGS))
                typed = texts if unknown.any() else lower.map(_FLAGS).astype("bool" if texts.notna().all() else object)
            case "moment":
                typed = pd.to_datetime(texts, utc=True, format="ISO8601").astype("datetime64[us, UTC]")
    except (ValueError, TypeError, OverflowError):
        return texts
    return typed
