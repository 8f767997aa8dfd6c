"""A canary on trial, and what replicas log of it."""

from collections.abc import Mapping
from datetime import timedelta
from functools import cached_property
from typing import Any

import numpy as np

from mlops_lab.bootstrap.identities import OPERATOR
from mlops_lab.clock import FixedClock
from mlops_lab.monitoring.canary import CanaryLimits
from mlops_lab.pipelines.canary import begin
from mlops_lab.pipelines.guard import TRIAL
from mlops_lab.registry.version import Assignment, Role
from mlops_lab.serving.prediction_log import PredictionLog
from parcel_builders import MODEL, week
from pipeline_builders import NOW, SmallLab

AT = week(10).closes_at
LIMITS = CanaryLimits(min_requests=200, min_s=10, deadline_s=600, error_rate=0.05)


class GuardedLab(SmallLab):
    """Its clock is the test's; its limits are quick to meet."""

    @cached_property
    def canary_limits(self) -> CanaryLimits:
        return LIMITS

    def after(self, seconds: float) -> None:
        self.clock = FixedClock(NOW + timedelta(seconds=seconds))


def on_trial(lab: GuardedLab, share: float = 0.1) -> Assignment:
    return begin(2, share, AT, OPERATOR, lab)


def log_trials(
    lab: GuardedLab,
    line: Assignment,
    count: int,
    *,
    errors: int = 0,
    ratio: float = 1.0,
    shift: float = 0.0,
    replica: str = "replica-1",
    **changes: Any,
) -> None:
    """Requests dealt to the canary, as a replica logs them; the failing ones are spread evenly."""
    rng = np.random.default_rng(count)
    failing = set(np.linspace(1, count - 1, errors).astype(int).tolist()) if errors else set()
    log = PredictionLog(lab.home / "serving" / replica / "log")
    for i in range(count):
        p = float(rng.uniform(0.05, 0.7))
        trial = {
            "assignment": line.id,
            "canary": line.version,
            "champion": 1,
            "canary_first": i % 2 == 0,
            "canary_us": None if i in failing else 20.0 * ratio * float(rng.lognormal(0, 0.1)),
            "champion_us": 20.0,
            "champion_probabilities": [p],
            "error": "it failed" if i in failing else None,
        }
        log.append(a_frame(i, p if i in failing else p + shift, trial | changes))
    log.close()


def a_frame(i: int, probability: float, trial: Mapping[str, Any]) -> dict[str, Any]:
    row = {"prediction_id": f"p{i}", "entity": "e", "moment": NOW, "features": [], "ages_s": {}, "probability": probability}
    return {"kind": "predictions", "request_id": f"r{i}", "model": MODEL, "answered_at": NOW, "rows": [row], "trial": dict(trial)}


def trials(lab: GuardedLab) -> list[tuple[str, Mapping[str, Any]]]:
    return [(fact.subject, fact.body) for fact in lab.ledger.facts(TRIAL)]


def canary(lab: GuardedLab) -> int | None:
    line = lab.ledger.current(Role.CANARY)
    return line.version if line else None
