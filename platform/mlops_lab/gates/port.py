"""What decides whether data may go on, and the one way to insist on it."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import pandas as pd

from mlops_lab.errors import SnapshotRefused
from mlops_lab.gates.expectation import Expectation
from mlops_lab.gates.verdict import Verdict


class Gate(Protocol):
    """Checks expectations. Kept by `in_memory.py` and `on_great_expectations.py`; both pass tests/spec/test_gates.py.

    The rules, for both. A gap (None, NaN, NaT) breaks `not_null` and is passed over by the rules about values; `mostly` is a share of
    the values that are left. Bounds are inclusive and either may be None. `type` knows the words of `data.schema.ColumnType`.
    `unique` counts every row of a repeated key. What cannot be checked (no such table or column, a table without rows, text
    where a number is compared, an error in the gate, an unknown rule) is a failed, blocking finding, whatever the expectation says.
    """

    def check(
        self, subject: str, digest: str, tables: Mapping[str, pd.DataFrame], expectations: Sequence[Expectation], *, gate: str = "batch"
    ) -> Verdict:
        """Check everything and report everything; never raises for what is in the data.

        Args:
            subject: What is checked: a batch name, a window id.
            digest: Content digest of the tables.
            tables: Rows by table name; not changed.
            expectations: Rules; without one the verdict refuses.
            gate: `batch` or `window`, for the verdict.
        """
        ...


def require(verdict: Verdict) -> None:
    """Go on only if the verdict accepts.

    Raises:
        SnapshotRefused: It does not, with the first reason.
    """
    if verdict.accepted:
        return
    reasons = verdict.reasons
    first = reasons[0].expectation if reasons else "nothing was checked"
    raise SnapshotRefused.by(verdict.gate, verdict.subject, len(reasons), len(verdict.findings), first)
