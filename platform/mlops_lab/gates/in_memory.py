"""The gate on pandas alone: no framework, milliseconds. The twin of `on_great_expectations.py`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mlops_lab.gates.expectation import Expectation
from mlops_lab.gates.finding import Uncheckable, as_text, of_rows, of_table, unchecked
from mlops_lab.gates.rule import table_of, type_name
from mlops_lab.gates.verdict import Finding, Verdict


class PandasGate:
    """Keeps `Gate` with plain comparisons."""

    def check(
        self, subject: str, digest: str, tables: Mapping[str, pd.DataFrame], expectations: Sequence[Expectation], *, gate: str = "batch"
    ) -> Verdict:
        findings = tuple(_finding(expectation, tables) for expectation in expectations)
        return Verdict(gate, subject, digest, findings, {"engine": "pandas", "version": pd.__version__})


def _finding(expectation: Expectation, tables: Mapping[str, pd.DataFrame]) -> Finding:
    try:
        frame = table_of(expectation, tables)  # first: it also knows whether there is such a rule
        return _RULES[expectation.rule](expectation, frame, **expectation.arguments)
    except Uncheckable as error:
        return unchecked(expectation, str(error))
    except Exception as error:  # whatever goes wrong in a gate refuses; the reason is kept as the finding
        return unchecked(expectation, f"{type(error).__name__}: {error}")


def _columns_exactly(expectation: Expectation, frame: pd.DataFrame, columns: Sequence[str]) -> Finding:
    found = [str(name) for name in frame.columns]
    return of_columns(expectation, len(frame), found, columns)


def of_columns(expectation: Expectation, rows: int, found: Sequence[str], wanted: Sequence[str]) -> Finding:
    """Order does not count; a column that is there twice does."""
    missing, strange = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    twice = sorted({name for name in found if found.count(name) > 1})
    parts = [f"{word} {', '.join(names)}" for word, names in (("lacks", missing), ("unexpected", strange), ("twice", twice)) if names]
    return of_table(expectation, rows, not parts, "; ".join(parts), [*missing, *strange, *twice])


def _type(expectation: Expectation, frame: pd.DataFrame, column: str, is_type: str) -> Finding:
    values = frame[column]
    if values.dtype != object:
        return of_type(expectation, values)
    known = values[values.notna()]
    wrong = known[[not isinstance(value, _PYTHON_TYPES[is_type]) for value in known]]
    return of_rows(expectation, len(frame), len(known), len(wrong), wrong)


def of_type(expectation: Expectation, values: "pd.Series[Any]") -> Finding:
    """A column that has a type of its own."""
    name = type_name(values)
    return of_table(expectation, len(values), name == expectation.arguments["is_type"], f"{name} ({values.dtype})")


_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "text": (str,),
    "integer": (int, np.integer),
    "number": (float, np.floating),
    "flag": (bool, np.bool_),
    "moment": (pd.Timestamp,),
}


def _not_null(expectation: Expectation, frame: pd.DataFrame, column: str) -> Finding:
    gaps = int(frame[column].isna().sum())
    return of_rows(expectation, len(frame), len(frame), gaps, [])


def _unique(expectation: Expectation, frame: pd.DataFrame, columns: Sequence[str]) -> Finding:
    keys = frame[list(columns)].dropna(how="all")
    repeated = keys[keys.duplicated(keep=False)]
    return of_rows(expectation, len(frame), len(keys), len(repeated), repeated.head(10).itertuples(index=False, name=None))


def _between(expectation: Expectation, frame: pd.DataFrame, column: str, low: Any = None, high: Any = None) -> Finding:
    values = frame[column].dropna()
    outside = np.zeros(len(values), dtype=bool)
    if low is not None:
        outside |= (values < low).to_numpy(dtype=bool)
    if high is not None:
        outside |= (values > high).to_numpy(dtype=bool)
    return of_rows(expectation, len(frame), len(values), int(outside.sum()), values[outside].head(10))


def _in_set(expectation: Expectation, frame: pd.DataFrame, column: str, values: Sequence[Any]) -> Finding:
    known = frame[column].dropna()
    strange = known[~known.isin(list(values))]
    return of_rows(expectation, len(frame), len(known), len(strange), strange.head(10))


def _mean_between(
    expectation: Expectation, frame: pd.DataFrame, column: str, low: float | None = None, high: float | None = None
) -> Finding:
    values = frame[column].dropna()
    return of_mean(expectation, len(frame), float(values.mean()) if len(values) else float("nan"), low, high)


def of_mean(expectation: Expectation, rows: int, mean: float, low: float | None, high: float | None) -> Finding:
    """A mean against its bounds; a mean of nothing could not be checked."""
    if mean != mean:
        return unchecked(expectation, "there is no value to take the mean of", rows)
    return of_table(expectation, rows, (low is None or mean >= low) and (high is None or mean <= high), f"mean {as_text(mean)}")


def _row_count(expectation: Expectation, frame: pd.DataFrame, low: int | None = None, high: int | None = None) -> Finding:
    return of_row_count(expectation, len(frame), low, high)


def of_row_count(expectation: Expectation, rows: int, low: int | None = None, high: int | None = None) -> Finding:
    """A number of rows against its bounds."""
    return of_table(expectation, rows, (low is None or rows >= low) and (high is None or rows <= high), f"{rows} rows")


def _pair_greater(expectation: Expectation, frame: pd.DataFrame, a: str, b: str) -> Finding:
    pairs = frame[[a, b]].dropna()
    wrong = pairs[~(pairs[a] >= pairs[b])]
    return of_rows(expectation, len(frame), len(pairs), len(wrong), wrong.head(10).itertuples(index=False, name=None))


_RULES: dict[str, Callable[..., Finding]] = {
    "columns_exactly": _columns_exactly,
    "type": _type,
    "not_null": _not_null,
    "unique": _unique,
    "between": _between,
    "in_set": _in_set,
    "mean_between": _mean_between,
    "row_count": _row_count,
    "pair_greater": _pair_greater,
}
