"""How labels find their predictions: a pure function of the set of events, so order, repeats and lateness change nothing."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Literal

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from mlops_lab.data.digest import content_digest
from mlops_lab.data.prediction import RANDOM_COLUMNS
from mlops_lab.data.schema import Column, TableSchema

OUTCOMES = "outcomes"
JOINED = ("prediction_id", "variant", "moment", "entity")
"""The columns of predictions that the join needs."""
PATIENCE = timedelta(days=7)
"""How long an outcome may wait for its prediction before it is flagged as overdue."""

_EVENT = (
    Column("event_id", "text", nullable=False),
    Column("prediction_id", "text", nullable=False),
    Column("revision", "integer", nullable=False),
    Column("at", "moment", nullable=False),
    Column("received_at", "moment", nullable=False),
)
EVENT_COLUMNS = tuple(column.name for column in _EVENT)
"""The columns before the use case's own. `at` is event time (when it became known), `received_at` wall time."""


def outcomes_schema(columns: Iterable[Column]) -> TableSchema:
    """One row per feedback event: the event, then what the use case says of the outcome, gaps allowed."""
    return TableSchema(OUTCOMES, _EVENT + tuple(columns))


@dataclass(frozen=True)
class Labelled:
    """Predictions and what became of them, as known at one moment. Frames have a fresh index.

    Attributes:
        rows: Predictions with their outcome: the prediction's columns, then event_id, revision, known_at and the use case's
            columns. Sorted by moment, entity, variant, prediction_id. Whether an outcome gives a label (a cancelled
            flight gives none) is for the use case to say.
        pending: Predictions without an outcome, same order.
        waiting: Outcomes without a prediction: the outcome's columns without received_at, and `overdue`.
        repeated: Rows that said nothing new: deliveries beyond the first of an event or a prediction.
        conflicting: Predictions for which more than one content was sent; the winner is in `rows`.
    """

    rows: pd.DataFrame
    pending: pd.DataFrame
    waiting: pd.DataFrame
    repeated: int
    conflicting: int

    @property
    def coverage(self) -> float:
        """Share of the predictions that have an outcome, 0 to 1; 0 where there is no prediction."""
        made = len(self.rows) + len(self.pending)
        return len(self.rows) / made if made else 0.0

    @cached_property
    def content_digest(self) -> str:
        """Digest of `rows` without ids that are drawn at random and without wall times: two runs over the same data agree."""
        return content_digest(self.rows.drop(columns=[*RANDOM_COLUMNS, "event_id"]))


def join(predictions: pd.DataFrame, outcomes: pd.DataFrame, until: datetime, patience: timedelta = PATIENCE) -> Labelled:
    """Put each prediction together with the outcome that counts for it.

    Of several outcomes the highest revision wins, then the greatest event id, then (one id sent with two contents) the
    greatest content. Of one prediction in several rows, which only repeated delivery makes, the smallest content counts.

    Args:
        predictions: Columns of `predictions_schema`.
        outcomes: Columns of `outcomes_schema`.
        until: Event time, aware: later predictions were not made yet, later outcomes are not known yet.
        patience: After which a waiting outcome is overdue.
    """
    # Fresh indexes: rows are told apart by them, and a caller may have put frames together.
    answered = predictions[predictions["moment"] <= until].reset_index(drop=True)
    made, repeats, _ = _one_each(answered, ["prediction_id", "variant"], [], keep="first")
    known = outcomes[outcomes["at"] <= until].drop(columns="received_at").reset_index(drop=True)
    winners, echoes, conflicting = _one_each(known, ["prediction_id"], ["revision", "event_id"], keep="last")
    made = _in_order(made, ["moment", "entity", "variant", "prediction_id"])
    found = pd.Index(winners["prediction_id"]).get_indexer(pd.Index(made["prediction_id"]))
    has = found >= 0
    outcome = winners.drop(columns="prediction_id").rename(columns={"at": "known_at"}).iloc[found[has]].reset_index(drop=True)
    waiting = _in_order(winners[~winners["prediction_id"].isin(made["prediction_id"])], ["at", "event_id", "prediction_id"])
    return Labelled(
        rows=pd.concat([made[has].reset_index(drop=True), outcome], axis=1),
        pending=made[~has].reset_index(drop=True),
        waiting=waiting.assign(overdue=waiting["at"] + patience < until),
        repeated=repeats + echoes,
        conflicting=conflicting,
    )


def _in_order(frame: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Sorted by columns without gaps, fresh index. Arrow compares texts three times faster than pandas."""
    keys = pa.Table.from_pandas(frame[columns], preserve_index=False)
    order = pc.sort_indices(keys, sort_keys=[(name, "ascending") for name in columns])
    return frame.take(order.to_numpy()).reset_index(drop=True)


def _one_each(frame: pd.DataFrame, key: list[str], rank: list[str], keep: Literal["first", "last"]) -> tuple[pd.DataFrame, int, int]:
    """One row per key: the first or last in the order of rank, then of content. Also repeated rows, and keys with several contents.

    Only keys with several rows are sorted, since a sort of texts is what costs here and nearly all keys have one.
    """
    several = frame.duplicated(key, keep=False)
    if not several.any():
        return frame, 0, 0
    delivered = frame[several]
    distinct = delivered.drop_duplicates()
    rivals = distinct[distinct.duplicated(key, keep=False)]
    # Contents of one key are ordered by what they say, in a text that does not depend on where they came from.
    rivals = rivals.assign(**{"(content)": [repr(row) for row in rivals.itertuples(index=False, name=None)]})
    best = rivals.sort_values([*key, *rank, "(content)"]).drop_duplicates(key, keep=keep)
    alone = distinct[~distinct.index.isin(rivals.index)]
    return pd.concat([frame[~several], alone, best[frame.columns]]), len(delivered) - len(distinct), len(best)
