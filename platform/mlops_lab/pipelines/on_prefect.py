"""The training order as a Prefect flow: its steps as tasks, its result as artifacts that a person understands."""

import logging
import os

os.environ.setdefault("DO_NOT_TRACK", "true")  # read while prefect is imported

from collections.abc import Callable
from typing import Any, TypeVar

from prefect import flow, task
from prefect.artifacts import create_link_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from mlops_lab.bootstrap import Lab
from mlops_lab.errors import BusUnreachable, RegistryUnreachable, StoreUnreachable
from mlops_lab.pipelines.judge import judge_version
from mlops_lab.pipelines.orders import TrainModel
from mlops_lab.pipelines.train import gather, make, register
from mlops_lab.registry.judge import Judgement
from mlops_lab.registry.version import ModelVersion

AGAIN_AFTER_S = [5.0, 15.0, 45.0]
"""Seconds to wait before a step is tried again that needed a part which did not answer: as a rule it is being started anew."""

T = TypeVar("T")

log = logging.getLogger(__name__)


def run_training_flow(order: TrainModel, lab: Lab) -> tuple[Judgement, ModelVersion]:
    """Train, register and judge; the run is named after the order. Errors of the steps come out as they are."""

    @flow(name=f"train-{lab.model}", flow_run_name=f"{order.origin} as of {order.at:%Y-%m-%d}", log_prints=False)
    def training(order_id: str, origin: str, at: str, flip_share: float) -> tuple[Judgement, ModelVersion]:
        return steps(order, lab)

    return training(order.id, order.origin, order.at.isoformat(), order.flip_share)


def steps(order: TrainModel, lab: Lab) -> tuple[Judgement, ModelVersion]:
    """Train, register and judge as tasks of the flow that runs."""
    material = _step("gather rows", lambda: gather(order, lab))
    made = _step("fit, export, measure", lambda: make(material, lab))
    version = _step("register", lambda: register(order, material, made, lab))
    judgement = _step("judge", lambda: judge_version(version, order.at, lab))
    _describe(order, version, judgement, lab)
    return judgement, version


def _step(name: str, work: Callable[[], T]) -> T:
    # A closure without arguments and without caching: frames are neither hashed nor written to Prefect's storage.
    again = {"retries": len(AGAIN_AFTER_S), "retry_delay_seconds": AGAIN_AFTER_S, "retry_condition_fn": _is_away}
    step: Any = task(name=name, cache_policy=NO_CACHE, persist_result=False, **again)(work)  # type: ignore[call-overload]
    result: T = step()
    return result


def _is_away(step: Any, run: Any, failed: Any) -> bool:
    """Whether a step failed because a part does not answer; whatever else it failed by will be so the next time, too."""
    return isinstance(failed.data, BusUnreachable | RegistryUnreachable | StoreUnreachable)


def _describe(order: TrainModel, version: ModelVersion, judgement: Judgement, lab: Lab) -> None:
    """For who looks at the run. The judgement is in the ledger: a server that does not take this costs nobody a model."""
    rows = [{"check": c.name, "passed": "yes" if c.passed else "NO", "measured": c.measured, "limit": c.limit} for c in judgement.checks]
    heading = f"Version {version.number} ({order.origin}): {judgement.outcome}, {judgement.because}"
    page = f"http://127.0.0.1:{lab.settings.consoles.mlflow_port}/#/models/{lab.model}/versions/{version.number}"
    try:
        create_table_artifact(rows, key=f"judgement-{version.number}", description=heading)
        create_link_artifact(page, f"Version {version.number} in MLflow", key=f"version-{version.number}")
    except Exception:  # of Prefect's client alone, which raises its own, httpx's and pydantic's
        log.warning("training.not_described", exc_info=True)
