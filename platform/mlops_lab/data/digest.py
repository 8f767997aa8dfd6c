"""One digest for one content: the same rows in any order, with any column order, give the same SHA-256."""

import hashlib
import re
from collections.abc import Mapping

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

_VERSION = b"mlops-lab-rows/1"


def content_digest(frame: pd.DataFrame) -> str:
    """Lower-case hexadecimal SHA-256 of a frame's content.

    Row order, column order and index do not count. Integers and floats are compared as float64, moments in microseconds
    UTC (naive ones are taken as UTC); None, NaN and NaT are the same gap, and -0.0 is 0.0.

    Args:
        frame: Columns of text, numbers, booleans or moments. Unique text names.

    Raises:
        TypeError: A column holds something else, or mixed types.
    """
    names = sorted(str(name) for name in frame.columns)
    digest = hashlib.sha256(_VERSION)
    digest.update(repr((len(frame), names)).encode())
    if not names or frame.empty:
        return digest.hexdigest()
    table = pa.Table.from_arrays([_canonical(frame[name], name) for name in names], names=names)
    # The most varied columns first: ties are what makes a sort over many columns slow. Which one leads does not depend on row order.
    order = sorted(names, key=lambda name: (-pc.count_distinct(table[name]).as_py(), name))
    table = table.take(pc.sort_indices(table, sort_keys=[(name, "ascending") for name in order]))
    for name in names:
        _update(digest, name, table[name].combine_chunks())
    return digest.hexdigest()


def of_tables(tables: Mapping[str, pd.DataFrame]) -> str:
    """One digest over several tables by name."""
    digest = hashlib.sha256(_VERSION)
    for name in sorted(tables):
        digest.update(f"{name}\n{content_digest(tables[name])}\n".encode())
    return digest.hexdigest()


def _canonical(values: "pd.Series[object]", name: str) -> pa.Array:
    try:
        array = pa.array(values, from_pandas=True)
    except pa.ArrowException as error:
        raise TypeError(f"column '{name}' cannot be digested: {error}") from error
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    kind = array.type
    if pa.types.is_dictionary(kind):
        array, kind = array.dictionary_decode(), kind.value_type
    if pa.types.is_null(kind):
        return array.cast(pa.float64())
    if pa.types.is_boolean(kind):
        return array
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return pc.add(array.cast(pa.float64()), 0.0)  # -0.0 + 0.0 is 0.0
    if pa.types.is_timestamp(kind):
        return array.cast(pa.timestamp("us", tz=kind.tz), safe=False).cast(pa.int64())
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return array.cast(pa.large_string())
    raise TypeError(f"column '{name}' of type {re.sub('[<(].*', '', str(kind))} cannot be digested: use text, numbers, booleans or moments")


def _update(digest: "hashlib._Hash", name: str, array: pa.Array) -> None:
    """Feed one sorted column: its name, where the gaps are, and the values with gaps filled by a constant."""
    # An all-gap column has no type worth telling: it reads back from a file as another one.
    kind = "gaps" if array.null_count == len(array) else str(array.type)
    digest.update(repr((name, kind)).encode())
    digest.update(pc.is_null(array).cast(pa.uint8()).to_numpy(zero_copy_only=False).tobytes())
    if kind == "gaps":
        return
    if pa.types.is_large_string(array.type):
        filled = pc.fill_null(array, "")
        digest.update(pc.binary_length(filled).to_numpy(zero_copy_only=False).astype("<i8").tobytes())
        digest.update("".join(filled.to_pylist()).encode())
        return
    filled = pc.fill_null(array, False if pa.types.is_boolean(array.type) else 0)
    if pa.types.is_boolean(filled.type):
        filled = filled.cast(pa.uint8())
    digest.update(filled.to_numpy(zero_copy_only=False).astype(filled.to_numpy(zero_copy_only=False).dtype.newbyteorder("<")).tobytes())
