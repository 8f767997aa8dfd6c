"""Outcomes whose prediction has not turned up: they wait in their table, and somebody is told of those that wait for too long."""

from datetime import datetime, timedelta

import pandas as pd

from mlops_lab.bootstrap import Lab
from mlops_lab.bootstrap.identities import PLATFORM
from mlops_lab.data.label import OUTCOMES, PATIENCE
from mlops_lab.data.port import Filter
from mlops_lab.data.prediction import PREDICTIONS
from mlops_lab.registry.ledger import OVERDUE

NAMED = 1_000
"""Most events that one record names."""

_COLUMNS = ["event_id", "prediction_id", "at"]
_ANSWERED_BEFORE = timedelta(days=5)


def waiting(lab: Lab, until: datetime) -> pd.DataFrame:
    """Every outcome known at a moment that has no prediction, oldest first: event_id, prediction_id, at, overdue."""
    lab.shipper  # noqa: B018  declares the tables
    outcomes = lab.tables.read(OUTCOMES, filters=[("at", "<=", until)], columns=_COLUMNS).drop_duplicates("event_id")
    found = _unknown(lab, outcomes)
    return found.assign(overdue=found["at"] + PATIENCE < until)


def flag_overdue(at: datetime, lab: Lab) -> int:
    """Record the outcomes that are overdue and were not named before; returns how many.

    The first look of a process is at all outcomes, later ones at those that have become overdue, or were received, since the last.

    Args:
        at: Event time.
        lab: The home.
    """
    since, now = lab.reported.looked_for_overdue, lab.clock.now()
    if since is not None and since[0] >= at:
        return 0
    overdue: Filter = ("at", "<", at - PATIENCE)
    spans: list[list[Filter]] = [[overdue]]
    if since is not None:
        spans = [[overdue, ("at", ">=", since[0] - PATIENCE)], [overdue, ("received_at", ">=", since[1])]]
    lab.shipper  # noqa: B018
    due = pd.concat([lab.tables.read(OUTCOMES, filters=span, columns=_COLUMNS) for span in spans]).drop_duplicates("event_id")
    new = _not_named(lab, _unknown(lab, due))
    if not new.empty:
        body = {"count": len(new), "event_ids": list(new["event_id"][:NAMED]), "prediction_ids": list(new["prediction_id"][:NAMED])}
        why = f"{len(new):,} outcomes have waited for their prediction for more than {PATIENCE.days} days; `lab log waiting` lists them"
        lab.ledger.record(OVERDUE, f"until {at:%Y-%m-%d %H:%M}Z", body, at=at, by=PLATFORM, why=why)
    lab.reported.looked_for_overdue = at, now
    return len(new)


def _not_named(lab: Lab, found: pd.DataFrame) -> pd.DataFrame:
    if found.empty:
        return found
    named = {identifier for fact in lab.ledger.facts(OVERDUE) for identifier in fact.body["event_ids"]}
    return found[~found["event_id"].isin(named)]


def _unknown(lab: Lab, outcomes: pd.DataFrame) -> pd.DataFrame:
    """Those whose prediction is not in the table, oldest first, fresh index."""
    if outcomes.empty:
        return outcomes
    # Nearly all are answered for within five days; what is left is looked for everywhere.
    near: list[Filter] = [("moment", ">=", outcomes["at"].min() - _ANSWERED_BEFORE), ("moment", "<=", outcomes["at"].max())]
    left = outcomes[~outcomes["prediction_id"].isin(lab.tables.read(PREDICTIONS, filters=near, columns=["prediction_id"])["prediction_id"])]
    if not left.empty:
        anywhere = lab.tables.read(PREDICTIONS, filters=[("prediction_id", "in", list(left["prediction_id"]))], columns=["prediction_id"])
        left = left[~left["prediction_id"].isin(anywhere["prediction_id"])]
    return left.sort_values(["at", "event_id"], ignore_index=True)
