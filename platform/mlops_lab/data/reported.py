"""From a log of reported outcomes into the table of outcomes: each report has its effect once, whatever dies in between."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from mlops_lab.clock import iso
from mlops_lab.data.frames import Reader
from mlops_lab.data.label import OUTCOMES
from mlops_lab.data.port import FeatureLike, Tables
from mlops_lab.data.schema import Column
from mlops_lab.errors import SchemaRefused

_ANY_TIME = "2000-01-01T00:00:00Z"


class Report(NamedTuple):
    """One outcome as it was found in a log.

    Attributes:
        offset: Its place, 1, 2, 3, ..., growing.
        said: event_id, prediction_id, revision, at and outcome, as a feedback item has them.
    """

    offset: int
    said: Mapping[str, Any]


class Sifted(NamedTuple):
    """Reports that can be rows of the table, and those that cannot, with the reason; both in order."""

    rows: Sequence[Report]
    refused: Sequence[tuple[Report, SchemaRefused]]


class Intake:
    """Appends reports to the table of outcomes.

    How far a log was taken in is the table's progress under the log's name, in the same commit as the rows. So a death leaves both or
    neither, and of two who take in the same log one is refused and looks again.
    """

    def __init__(self, tables: Tables, features: Sequence[FeatureLike], outcome: Sequence[Column]) -> None:
        """Args:
        tables: Where to.
        features: Of the use case.
        outcome: Its columns of an outcome.
        """
        self._tables = tables
        self._reader = Reader(features, outcome)
        self._schema = next(schema for schema in self._reader.schemas if schema.name == OUTCOMES)
        self._known: dict[str, int] = {}
        self.looked_for_overdue: tuple[datetime, datetime] | None = None
        """Event and wall time up to which this process has looked for outcomes without a prediction; for whoever does."""
        tables.declare(self._schema)

    def position(self, log: str) -> int:
        """Everything up to this offset of a log is in the table; 0 for nothing."""
        if log not in self._known:
            self._known[log] = self._tables.progress(OUTCOMES, _writer(log)) or 0
        return self._known[log]

    def sifted(self, reports: Sequence[Report]) -> "Sifted":
        """Tell what can be rows of the table from what cannot: all at once, and by halves only where something cannot."""
        try:
            self._schema.rows(self._reader.outcomes_of([_frame(reports, _ANY_TIME)]))
        except SchemaRefused as error:
            if len(reports) == 1:
                return Sifted((), ((reports[0], error),))
            half = len(reports) // 2
            first, second = self.sifted(reports[:half]), self.sifted(reports[half:])
            return Sifted([*first.rows, *second.rows], [*first.refused, *second.refused])
        return Sifted(reports, ())

    def append(self, log: str, reports: Sequence[Report], until: int, received_at: datetime) -> int:
        """Add the reports behind `position(log)`, and note that all up to an offset is taken in.

        Args:
            log: Its name. One that was made anew has another, since its offsets begin again.
            reports: In order.
            until: The offset; reports that were refused lie before it too.
            received_at: Wall time.

        Returns:
            How many rows were added.

        Raises:
            SchemaRefused: One of them cannot be a row; nothing was written.
            ProgressMoved: Somebody else takes in the same log; nothing was written by this call.
            StoreUnreachable: Call again.
        """
        done = self.position(log)
        new = [report for report in reports if report.offset > done]
        rows = self._reader.outcomes_of([_frame(new, iso(received_at))])
        del self._known[log]  # until this returns only the table knows
        self._tables.append(OUTCOMES, rows, _writer(log), until, after=done)
        self._known[log] = until
        return len(new)


def _writer(log: str) -> str:
    return f"reported:{log}"


def _frame(reports: Sequence[Report], received_at: str) -> dict[str, Any]:
    return {"kind": "feedback", "received_at": received_at, "items": [report.said for report in reports]}
