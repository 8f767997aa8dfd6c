"""The training order as a Prefect flow: its steps as tasks, its result as artifacts that a person understands."""

import os

os.environ.setdefault("DO_NOT_TRACK", "true")  # read while prefect is imported

from collections.abc import Callable
from typing import Any, TypeVar

from prefect import flow, task
from prefect.artifacts import create_link_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from mlops_lab.bootstrap import Lab
from mlops_lab.pipelines.judge import judge_version
from mlops_lab.pipelines.orders import TrainModel
from mlops_lab.pipelines.train import gather, make, register
from mlops_lab.registry.judge import Judgement
from mlops_lab.registry.version import ModelVersion

T = TypeVar("T")


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
    step: Any = task(name=name, cache_policy=NO_CACHE, persist_result=False)(work)
    result: T = step()
    return result


def _describe(order: TrainModel, version: ModelVersion, judgement: Judgement, lab: Lab) -> None:
    rows = [{"check": c.name, "passed": "yes" if c.passed else "NO", "measured": c.measured, "limit": c.limit} for c in judgement.checks]
    create_table_artifact(
        rows,
        key=f"judgement-{version.number}",
        description=f"Version {version.number} ({order.origin}): {judgement.outcome}, {judgement.because}",
    )
    console = f"http://127.0.0.1:{lab.settings.consoles.mlflow_port}"
    create_link_artifact(
        f"{console}/#/models/{lab.model}/versions/{version.number}", f"Version {version.number} in MLflow", key=f"version-{version.number}"
    )
