"""What production captured: live answers with their features as scored, joined with the outcomes that have arrived."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlops_lab.bootstrap import Lab
from mlops_lab.data.digest import content_digest
from mlops_lab.data.label import JOINED, OUTCOMES, Labelled, join
from mlops_lab.data.port import Filter
from mlops_lab.data.prediction import PREDICTIONS
from mlops_lab.retraining.decision import Outcome
from mlops_lab.training.rows import TrainingRows, as_moment

LIVE: Filter = ("purpose", "=", "live")


@dataclass(frozen=True)
class Captured:
    """Labelled production rows and the table versions they were read from."""

    rows: TrainingRows
    versions: dict[str, int]


def labelled(
    lab: Lab,
    start: datetime | None,
    end: datetime,
    until: datetime,
    versions: Mapping[str, int] | None = None,
    columns: Sequence[str] | None = None,
) -> Labelled:
    """Live answers whose moment lies in [start, end) with the outcomes known at `until`. Start None: from the beginning.

    Versions of the two tables, by name, read them as they were then; None as they are now. Columns: those of the answers that are wanted
    beside the ones that the join needs; None for all.
    """
    lab.shipper  # noqa: B018  declares both tables
    filters: list[Filter] = [LIVE, ("moment", "<", end)]
    if start is not None:
        filters.append(("moment", ">=", start))
    as_of = versions or {}
    wanted = None if columns is None else list(dict.fromkeys([*JOINED, *columns]))
    predictions = lab.tables.read(PREDICTIONS, version=as_of.get(PREDICTIONS) or None, filters=filters, columns=wanted)
    known: list[Filter] = [("at", "<=", until)]
    if start is not None:
        known.append(("at", ">=", start))
    outcomes = lab.tables.read(OUTCOMES, version=as_of.get(OUTCOMES) or None, filters=known)
    return join(predictions, outcomes, until)


def captured(lab: Lab, end: datetime, until: datetime) -> Captured:
    """What may be trained on: rows before `end`, one per entity, without the weeks that ended in a data incident."""
    lab.shipper  # noqa: B018
    versions = {table: lab.tables.version(table) for table in (PREDICTIONS, OUTCOMES)}
    rows = training_rows(lab, labelled(lab, None, end, until, versions).rows)
    return Captured(without_incidents(lab, rows), versions)


def without_incidents(lab: Lab, rows: TrainingRows) -> TrainingRows:
    """The rows outside the weeks that ended in a data incident: a broken feed neither trains nor judges."""
    keep = np.ones(len(rows), dtype=np.bool_)
    for decision in lab.ledger.decisions():
        if decision["outcome"] == Outcome.DATA_INCIDENT:
            start, stop = (as_moment(datetime.fromisoformat(decision[edge])) for edge in ("start", "end"))
            keep &= ~((rows.moments >= start) & (rows.moments < stop))
    return rows.take(keep)


def first_moment(lab: Lab) -> datetime | None:
    """Event time of the first live answer; None where there is none."""
    lab.shipper  # noqa: B018
    moments = lab.tables.read(PREDICTIONS, filters=[LIVE], columns=["moment"])["moment"]
    first: datetime | None = None if moments.empty else moments.min().to_pydatetime()
    return first


def labels_digest(lab: Lab, rows: pd.DataFrame) -> str:
    """One digest for the labels of answers: which entity, asked when, had which outcome by which revision. Later news change it."""
    outcome = [column.name for column in lab.use_case.outcome_columns]
    return content_digest(rows[["entity", "moment", "revision", *outcome]])


def days_of(rows: pd.DataFrame) -> NDArray[np.datetime64]:
    """The UTC day of each row's moment, datetime64[D]: the unit that intervals are drawn over."""
    days: NDArray[np.datetime64] = rows["moment"].dt.tz_localize(None).to_numpy(dtype="datetime64[D]")
    return days


def training_rows(lab: Lab, rows: pd.DataFrame) -> TrainingRows:
    """Labelled answers as training rows; an entity that was asked about twice counts once, as first answered."""
    rows = rows.sort_values(["moment", "entity", "probability"], kind="stable").drop_duplicates("entity", ignore_index=True)
    return TrainingRows(
        features=rows[[feature.name for feature in lab.use_case.features]],
        labels=lab.use_case.labels(rows).astype(np.bool_),
        keys=rows["entity"].to_numpy(dtype=np.str_),
        moments=rows["moment"].dt.tz_localize(None).to_numpy(dtype="datetime64[us]"),
    )
