"""How findings are worded, the same for every engine: what was counted becomes a sentence here."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from mlops_lab.gates.expectation import Expectation
from mlops_lab.gates.verdict import Finding

MAX_EXAMPLES = 10


class Uncheckable(Exception):
    """An expectation about something that is not there or not comparable. Never leaves a gate: it becomes a finding that refuses."""


def of_rows(expectation: Expectation, table_rows: int, checked: int, failed: int, examples: Iterable[object]) -> Finding:
    """A rule about rows.

    Args:
        expectation: What was checked.
        table_rows: Rows of the table; without any, nothing was checked, which is a failure.
        checked: Rows the rule had something to say about.
        failed: Rows that broke it.
        examples: Offending values; the first ten are kept.
    """
    if table_rows == 0:
        return unchecked(expectation, f"table '{expectation.table}' has no rows")
    share = 1.0 if checked == 0 else (checked - failed) / checked
    observed = f"{failed} of {checked} rows break it ({100 * failed / checked:.2f} %)" if failed else ""
    shown = tuple(as_text(value) for value, _ in zip(examples, range(MAX_EXAMPLES), strict=False))
    return Finding(
        expectation.name,
        expectation.table,
        share >= expectation.mostly,
        expectation.blocking,
        checked,
        failed,
        observed,
        shown if failed else (),
    )


def of_table(expectation: Expectation, rows: int, passed: bool, observed: str, examples: Iterable[object] = ()) -> Finding:
    """A rule about the table as a whole."""
    shown = tuple(as_text(value) for value, _ in zip(examples, range(MAX_EXAMPLES), strict=False))
    return Finding(expectation.name, expectation.table, passed, expectation.blocking, rows, 0, observed, shown)


def unchecked(expectation: Expectation, why: str, rows: int = 0) -> Finding:
    """What could not be checked refuses, also where a failure would only warn."""
    return Finding(expectation.name, expectation.table, False, True, rows, 0, f"could not be checked: {why}")


def as_text(value: object) -> str:
    """An offending value as a person would write it; a row of several values is joined by commas."""
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, tuple | list):
        return ", ".join(as_text(part) for part in value)
    if value is None or value is pd.NaT or (isinstance(value, float) and value != value):
        return "(gap)"
    if isinstance(value, np.datetime64):  # loses its zone on the way through numpy; it is UTC here
        value = pd.Timestamp(value).tz_localize("UTC")
    if isinstance(value, pd.Timestamp):
        return str(value.isoformat()).replace("+00:00", "Z")
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)[:200].replace("+00:00", "Z")
