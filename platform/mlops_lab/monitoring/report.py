"""What was measured as a sentence for people and as a JSON object for records."""

from dataclasses import asdict
from typing import Any

from mlops_lab.monitoring.drift import Drift
from mlops_lab.monitoring.interval import Interval
from mlops_lab.monitoring.skill import Performance

NAMED = 3
"""Moved columns that a sentence names; the record has all."""


def interval_to_record(interval: Interval) -> dict[str, Any]:
    return {"mean": interval.mean, "low": interval.low, "high": interval.high, "rows": interval.rows, "days": interval.days}


def performance_to_record(found: Performance) -> dict[str, Any]:
    return {
        "n": found.n,
        "auc": found.auc,
        "brier": found.brier,
        "base_rate": found.base_rate,
        "brier_skill": found.brier_skill,
        "unexplained": interval_to_record(found.unexplained),
    }


def drift_to_record(drift: Drift) -> dict[str, Any]:
    return {
        "share": drift.share,
        "columns": [asdict(column) | {"method": column.method.value} for column in drift.columns],
        "prediction": asdict(drift.prediction) | {"method": drift.prediction.method.value},
        "rows": drift.rows,
        "reference_rows": drift.reference_rows,
    }


def performance_sentence(found: Performance) -> str:
    """Such as `6,412 labels: AUC 0.713, Brier 0.155, skill 0.08, unexplained loss 0.0041 (95 % over 7 days -0.0012 to 0.0090)`."""
    auc = "none" if found.auc is None else f"{found.auc:.3f}"
    skill = "none" if found.brier_skill is None else f"{found.brier_skill:.2f}"
    return f"{found.n:,} labels: AUC {auc}, Brier {found.brier:.3f}, skill {skill}, unexplained loss {found.unexplained}"


def drift_sentence(drift: Drift) -> str:
    """Such as `3 of 12 inputs moved (temperature 0.41, humidity 0.33, wind 0.22)`; the answers are named when they moved."""
    moved = sorted((c for c in drift.columns if c.drifted), key=lambda c: (c.value is not None, -(c.value or 0) / c.threshold, c.name))
    text = f"{len(moved)} of {len(drift.columns)} inputs moved"
    if moved:
        named = ", ".join(f"{c.name} {'silent' if c.value is None else f'{c.value:.2f}'}" for c in moved[:NAMED])
        text += f" ({named}{', ...' if len(moved) > NAMED else ''})"
    if drift.prediction.drifted:
        text += ", and so did the answers"
    return text
