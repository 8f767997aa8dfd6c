"""What every engine asks before it checks: are the table and the columns there, are the arguments those of the rule?"""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from mlops_lab.data.schema import COLUMN_TYPES
from mlops_lab.gates.expectation import Expectation, Rule
from mlops_lab.gates.finding import Uncheckable

_ARGUMENTS: dict[Rule, tuple[str, ...]] = {
    "columns_exactly": ("columns",),
    "type": ("column", "is_type"),
    "not_null": ("column",),
    "unique": ("columns",),
    "between": ("column", "low", "high"),
    "in_set": ("column", "values"),
    "mean_between": ("column", "low", "high"),
    "row_count": ("low", "high"),
    "pair_greater": ("a", "b"),
}
_WHOLE_TABLE: tuple[Rule, ...] = ("columns_exactly", "row_count")


def table_of(expectation: Expectation, tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The table an expectation speaks of, if the expectation can be checked on it at all.

    Raises:
        Uncheckable: With the reason, which becomes the finding.
    """
    known = _ARGUMENTS.get(expectation.rule)
    if known is None:
        raise Uncheckable(f"there is no rule '{expectation.rule}'")
    given, bounds = set(expectation.arguments), {"low", "high"} & set(known)
    if given - set(known) or set(known) - bounds - given or (bounds and not bounds & given):
        raise Uncheckable(
            f"rule '{expectation.rule}' takes {', '.join(known)}, given are {', '.join(sorted(expectation.arguments)) or 'none'}"
        )
    if not 0 <= expectation.mostly <= 1:
        raise Uncheckable(f"mostly is {expectation.mostly}, a share from 0 to 1 is wanted")
    if expectation.rule == "type" and expectation.arguments["is_type"] not in COLUMN_TYPES:
        raise Uncheckable(f"there is no type '{expectation.arguments['is_type']}', only {', '.join(COLUMN_TYPES)}")
    if expectation.table not in tables:
        raise Uncheckable(f"there is no table '{expectation.table}', only {', '.join(sorted(tables)) or 'none'}")
    frame = tables[expectation.table]
    absent = [name for name in columns_of(expectation) if name not in frame.columns]
    if absent:
        raise Uncheckable(f"table '{expectation.table}' has no column '{absent[0]}'")
    if frame.empty and expectation.rule not in _WHOLE_TABLE:
        raise Uncheckable(f"table '{expectation.table}' has no rows")
    if expectation.rule in ("between", "mean_between"):
        _must_be_comparable(frame[expectation.arguments["column"]], expectation)
    return frame


def _must_be_comparable(values: "pd.Series[Any]", expectation: Expectation) -> None:
    name, column = type_name(values), expectation.arguments["column"]
    known = values.dropna()
    if values.dtype == object and len(known):
        raise Uncheckable(f"column '{column}' holds text where numbers are compared, such as '{known.iloc[0]}'")
    if expectation.rule == "mean_between" and (name not in ("number", "integer") or known.empty):
        raise Uncheckable(f"column '{column}' has no mean: it is of type {name} and holds {len(known)} values")


def type_name(values: "pd.Series[Any]") -> str:
    """The platform's word for a column's dtype, or the dtype's own name."""
    kind = values.dtype
    if pd.api.types.is_bool_dtype(kind):
        return "flag"
    if pd.api.types.is_datetime64_any_dtype(kind):
        return "moment"
    if pd.api.types.is_integer_dtype(kind):
        return "integer"
    if pd.api.types.is_float_dtype(kind):
        return "number"
    return "text" if pd.api.types.is_string_dtype(kind) else str(kind)


def columns_of(expectation: Expectation) -> list[str]:
    """The columns a rule reads; none for rules about the whole table."""
    arguments: Mapping[str, Any] = expectation.arguments
    if expectation.rule in _WHOLE_TABLE:
        return []
    if expectation.rule == "pair_greater":
        return [arguments["a"], arguments["b"]]
    return list(arguments["columns"]) if "columns" in arguments else [arguments["column"]]
