"""What only Prefect itself shows of the training flow: which failures of a step are tried again, and that its pages cost nobody a model."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from prefect.testing.utilities import prefect_test_harness

from mlops_lab.errors import LabError, StoreUnreachable, TrainingFailed
from mlops_lab.pipelines import on_prefect
from mlops_lab.pipelines.orders import TrainModel
from pipeline_builders import NOW

ORDER = TrainModel("train-first", NOW, "trainer", origin="first")
VERSION = SimpleNamespace(number=1)
JUDGEMENT = SimpleNamespace(checks=[], outcome="promote", because="it is better")
LAB: Any = SimpleNamespace(model="flight-delay", settings=SimpleNamespace(consoles=SimpleNamespace(mlflow_port=5000)))


@pytest.fixture(scope="module")
def server() -> Iterator[None]:
    """A Prefect of its own for the module."""
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture
def fitted(server: None, monkeypatch: pytest.MonkeyPatch) -> list[LabError]:
    """Failures that fitting is going to meet, one after the other, before it succeeds."""
    trouble: list[LabError] = []

    def make(material: str, lab: Any) -> str:
        if trouble:
            raise trouble.pop(0)
        return "made"

    monkeypatch.setattr(on_prefect, "AGAIN_AFTER_S", [0.0, 0.0, 0.0])
    monkeypatch.setattr(on_prefect, "gather", lambda order, lab: "material")
    monkeypatch.setattr(on_prefect, "make", make)
    monkeypatch.setattr(on_prefect, "register", lambda order, material, made, lab: VERSION)
    monkeypatch.setattr(on_prefect, "judge_version", lambda version, at, lab: JUDGEMENT)
    return trouble


def away() -> StoreUnreachable:
    return StoreUnreachable.at("s3://tables/lab", "connection refused")


def test_a_step_waits_for_a_store_that_is_being_restarted(fitted: list[LabError]) -> None:
    fitted += [away(), away(), away()]

    assert on_prefect.run_training_flow(ORDER, LAB) == (JUDGEMENT, VERSION)
    assert not fitted


def test_a_store_that_stays_away_ends_the_training(fitted: list[LabError]) -> None:
    fitted += [away() for _ in range(5)]

    with pytest.raises(StoreUnreachable):
        on_prefect.run_training_flow(ORDER, LAB)
    assert len(fitted) == 1


def test_what_another_try_would_not_mend_is_not_tried_again(fitted: list[LabError]) -> None:
    fitted += [TrainingFailed("All labels are alike.", "take in more weeks."), away()]

    with pytest.raises(TrainingFailed):
        on_prefect.run_training_flow(ORDER, LAB)
    assert len(fitted) == 1


def test_a_server_that_does_not_take_the_description_costs_no_model(fitted: list[LabError], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **how: Any) -> None:
        raise RuntimeError("409")

    monkeypatch.setattr(on_prefect, "create_table_artifact", refuse)

    assert on_prefect.run_training_flow(ORDER, LAB) == (JUDGEMENT, VERSION)
