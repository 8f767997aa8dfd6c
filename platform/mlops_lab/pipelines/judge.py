"""Champion and challenger on the same rows of the newest closed weeks, which neither was trained on; the rows are kept as evidence."""

import statistics
import time
from datetime import datetime

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlops_lab.bootstrap import Lab
from mlops_lab.bootstrap.identities import PLATFORM
from mlops_lab.data.digest import content_digest
from mlops_lab.pipelines.reference import keep_reference
from mlops_lab.pipelines.traced import step
from mlops_lab.pipelines.train import champion_number, held_out_rows, probabilities_of, scorer_of
from mlops_lab.registry.judge import FirstRows, Judgement, PairedRows, judge, judge_first
from mlops_lab.registry.ledger import JUDGEMENT
from mlops_lab.registry.version import ModelVersion
from mlops_lab.scoring.scorer import Scorer
from mlops_lab.training.rows import TrainingRows, as_moment, values_of

LATENCY_ROWS = 200


@step("judge version")
def judge_version(version: ModelVersion, at: datetime, lab: Lab) -> Judgement:
    """Judge a version against the present champion, or on its own where there is none; record it; refuse the version if it falls short.

    Rows that the champion was trained on are left out, so that it has no head start. What was judged as of that moment stands: an order
    that a killed worker takes up again may find its version champion, and nothing is better than itself.
    """
    standing = [fact for fact in lab.ledger.facts(JUDGEMENT, str(version.number)) if fact.at == at]
    if standing:
        return _follow_up(Judgement.from_dict(standing[-1].body), version, at, lab)
    champion = champion_number(lab)
    rows = held_out_rows(lab, at)
    challenger = scorer_of(lab, version.number)
    new = probabilities_of(challenger, rows)
    unseen = rows.moments >= as_moment(version.trained_until)
    keep_reference(version.number, rows.take(unseen), new[unseen], lab)
    if champion is not None:
        unseen &= rows.moments >= as_moment(lab.ledger.version(champion).trained_until)
    rows, new = rows.take(unseen), new[unseen]
    slices = {name: rows.features[name].to_numpy() for name in lab.use_case.slices}
    latency_us = _latency_us(challenger, rows)
    if champion is None:
        old = np.full(len(rows), np.nan)
        judgement = judge_first(FirstRows(rows.labels, new, rows.days, slices, latency_us), lab.limits, lab.seed)
    else:
        old = probabilities_of(scorer_of(lab, champion), rows)
        judgement = judge(PairedRows(rows.labels, old, new, rows.days, slices, latency_us), lab.limits, lab.seed)
    evidence = _keep(lab, version, at, rows, old, new)
    record = judgement.to_dict() | {"champion": champion, "evidence": evidence}
    lab.ledger.record_judgement(version.number, record, at, PLATFORM)
    return _follow_up(judgement, version, at, lab)


def _follow_up(judgement: Judgement, version: ModelVersion, at: datetime, lab: Lab) -> Judgement:
    """Refuse what fell short; again changes nothing."""
    if judgement.outcome != "promote":
        lab.ledger.refuse(version.number, judgement.because, at, PLATFORM)
    return judgement


def _keep(
    lab: Lab, version: ModelVersion, at: datetime, rows: TrainingRows, old: NDArray[np.float64], new: NDArray[np.float64]
) -> dict[str, object]:
    """Write the judged rows; returns where they are and their digest, for the record."""
    table = pd.DataFrame(
        {"key": rows.keys.astype(object), "moment": rows.moments, "label": rows.labels, "champion": old, "challenger": new}
    )
    table = table.assign(**{name: rows.features[name].to_numpy() for name in lab.use_case.slices})
    path = lab.home / "evidence" / f"judgement-{version.number}-{at:%Y%m%dT%H%MZ}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".partial")
    table.to_parquet(aside, index=False)
    aside.replace(path)
    return {"file": str(path.relative_to(lab.home)), "sha256": content_digest(table), "rows": len(table)}


def _latency_us(scorer: Scorer, rows: TrainingRows) -> float | None:
    """Median time to score one row, in microseconds; None where there is no row to try."""
    values = values_of(rows.features.iloc[:LATENCY_ROWS], scorer.features)
    if not values:
        return None
    took = []
    for value in values:
        began = time.perf_counter_ns()
        scorer.score_one(value)
        took.append(time.perf_counter_ns() - began)
    return statistics.median(took) / 1000
