"""The demo's result as one JSON object, every number of it read from the stores."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mlops_lab.clock import iso
from mlops_lab.demo.evidence import KINDS, Act, decay_to_better_s, drifted_columns, examine
from mlops_lab.demo.stores import Stores
from mlops_lab.demo.story import ACTS
from mlops_lab.features.policy import STATES
from mlops_lab.monitoring.skill import roc_auc
from mlops_lab.monitoring.window import Window
from mlops_lab.retraining.decision import Decision

FILE = "summary.json"


def summarise(stores: Stores) -> dict[str, Any]:
    """Examine the home and put everything that a reader or a program wants to know into one object."""
    acts = examine(stores)
    served, never, brier_served, brier_never = _by_week(stores)
    gains = [served[week] - never[week] for week in served]
    seconds = decay_to_better_s(stores)
    attempts = {kind: stores.tally(kind) for kind in KINDS}
    summary: dict[str, Any] = _plain(
        {
            "passed": all(act.passed for act in acts),
            "steps": [_step(act) for act in acts],
            "predictions": len(stores.live),
            "answers_by_features": {state: int((stores.live["feature_state"] == state).sum()) for state in STATES},
            "labels": len(stores.labelled.rows),
            "label_coverage": round(stores.labelled.coverage, 4),
            "failed_requests": sum(tally.failed for tally in attempts.values()),
            "attempts": {
                kind: {"requests": t.attempts, "rows": t.rows, "failed": t.failed, "p50_ms": t.p50_ms, "p99_ms": t.p99_ms}
                for kind, t in attempts.items()
            },
            "versions": [_version(stores, number) for number in sorted(stores.versions)],
            "assignments": [_assignment(one) for one in stores.assignments],
            "decisions": [_decision(decision) for decision in stores.decisions],
            "refused": _refused(stores),
            "decay_to_better_model_s": max(seconds) if seconds else None,
            "auc_served_by_week": served,
            "auc_never_retrained_by_week": never,
            "brier_served_by_week": brier_served,
            "brier_never_retrained_by_week": brier_never,
            "mean_weekly_auc_gain": round(float(np.mean(gains)), 4) if gains else None,
            "mean_weekly_brier_gain": round(float(np.mean([brier_never[w] - brier_served[w] for w in served])), 4) if served else None,
            "audit_entries": len(stores.lab.trail.entries()),
            "digests": {"labelled": stores.labelled.content_digest, "policy": stores.lab.policy.digest()},
        }
    )
    return summary


def write(home: Path, summary: dict[str, Any]) -> Path:
    """Write the summary whole or not at all."""
    path = home / FILE
    aside = path.with_suffix(".partial")
    aside.write_text(json.dumps(summary, indent=1, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")
    aside.replace(path)
    return path


def _step(act: Act) -> dict[str, Any]:
    evidence = {sentence: found for sentence, _, found in act.claims}
    return {"id": act.id, "title": ACTS[act.id], "passed": act.passed, "seconds": act.seconds, "evidence": evidence, "broken": act.broken}


def _by_week(s: Stores) -> tuple[dict[str, float], dict[str, float], dict[str, float], dict[str, float]]:
    """ROC AUC and Brier score per decided week: of the answers that were given, and of version 1 on the same rows."""
    rows, first = s.labelled.rows, s.scored_by_first
    labels = s.lab.use_case.labels(rows).astype(np.float64)
    answered = rows["probability"].to_numpy()
    week_of = (
        rows["moment"]
        .dt.floor("D")
        .map({day: Window.containing(day.to_pydatetime()).id for day in pd.unique(rows["moment"].dt.floor("D"))})
    )
    results: tuple[dict[str, float], ...] = ({}, {}, {}, {})
    for decision in s.decisions:
        at = (week_of == decision.window.id).to_numpy()
        if not at.any():
            continue
        y = labels[at]
        for i, p in enumerate((answered[at], first[at])):
            results[i][decision.window.id] = round(roc_auc(p, y) or math.nan, 4)
            results[2 + i][decision.window.id] = round(float(((p - y) ** 2).mean()), 5)
    return results[0], results[1], results[2], results[3]


def _version(s: Stores, number: int) -> dict[str, Any]:
    version, judgement = s.versions[number], s.lab.ledger.judgement(number) or {}
    served = s.live[s.live["model_version"] == number]
    return {
        "version": number,
        "origin": version.origin,
        "state": str(s.lab.ledger.state(number)),
        "trained_until": iso(version.trained_until),
        "training_rows": int(s.catalog_version(number)["training_rows"]),
        "data_sha256": version.data_sha256,
        "scorer_sha256": version.scorer_sha256,
        "registered_by": version.registered_by,
        "approved_by": [fact.by for fact in s.facts_of("approval", str(number))],
        "judgement": judgement.get("outcome"),
        "because": judgement.get("because"),
        "figures": judgement.get("figures", {}),
        "predictions": len(served),
        "first_served": iso(served["moment"].min().to_pydatetime()) if len(served) else None,
        "last_served": iso(served["moment"].max().to_pydatetime()) if len(served) else None,
    }


def _assignment(one: Any) -> dict[str, Any]:
    return {
        "id": one.id,
        "kind": one.kind,
        "version": one.version,
        "from_version": one.from_version,
        "at": iso(one.at),
        "recorded_at": iso(one.recorded_at),
        "by": one.by,
        "why": one.why,
    }


def _decision(decision: Decision) -> dict[str, Any]:
    found = decision.evidence.get("performance") or {}
    return {
        "window": decision.window.id,
        "outcome": decision.outcome.value,
        "because": decision.because,
        "champion": decision.champion,
        "counts": decision.counts,
        "predictions": decision.evidence["predictions"],
        "labels": decision.evidence["labels"],
        "coverage": round(decision.evidence["coverage"], 4),
        "auc": found.get("auc"),
        "brier": found.get("brier"),
        "unexplained": found.get("unexplained"),
        "base_rate": found.get("base_rate"),
        "inputs": len((decision.evidence.get("drift") or {}).get("columns", [])),
        "drifted": drifted_columns(decision),
    }


def _refused(s: Stores) -> list[dict[str, Any]]:
    """Everything that was turned away: batches, approvals, challengers."""
    batches = [
        {"kind": "batch", "what": f"batch {fact.body['subject']}", "at": iso(fact.at), "why": fact.why}
        for fact in s.facts_of("gate_verdict")
        if not fact.body["accepted"]
    ]
    approvals = [
        {"kind": "approval", "what": f"approval of version {fact.subject} by {fact.by}", "at": iso(fact.at), "why": fact.why}
        for fact in s.facts_of("refused_approval")
    ]
    challengers = [
        {"kind": "challenger", "what": f"version {fact.subject}", "at": iso(fact.at), "why": fact.why} for fact in s.facts_of("refusal")
    ]
    return sorted([*batches, *approvals, *challengers], key=lambda one: str(one["at"]))


def _plain(value: Any) -> Any:
    """Only what JSON knows: numpy scalars as numbers, what is not finite as null."""
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(one) for one in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def compare(path: Path, again: dict[str, Any]) -> list[str]:
    """What a summary on disk says differently from one made again from the stores; a sentence each.

    A home that went on after the demo has more of everything: then what was recorded at the time (decisions, assignments, refusals) has to
    stand at the beginning of what is recorded now, and figures over all of it are left out.
    """
    if not path.is_file():
        return [f"{path.name} is missing"]
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return [f"{path.name} is not JSON"]
    if len(again["decisions"]) > len(before.get("decisions", ())):
        records = ("decisions", "assignments", "refused")
        return [
            f"'{name}' does not begin with what the demo recorded" for name in records if again[name][: len(before[name])] != before[name]
        ]
    return [f"'{key}' is not what the stores say" for key in sorted({*before, *again}) if before.get(key) != again.get(key)]
