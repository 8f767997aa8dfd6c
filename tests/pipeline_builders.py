"""A lab of parcels, which is trained and watched within seconds; and a year of its production, in a few calls."""

import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from mlops_lab.bootstrap import Lab
from mlops_lab.bootstrap.founding import found
from mlops_lab.bootstrap.identities import APPROVER, OPERATOR, TRAINER
from mlops_lab.clock import FixedClock
from mlops_lab.data.batch_files import write_batch
from mlops_lab.data.snapshot import Batch
from mlops_lab.events import CONTROL, Message, relay
from mlops_lab.events.on_sqlite import SqliteBus
from mlops_lab.events.schema import EventTypes
from mlops_lab.gates import PandasGate
from mlops_lab.governance.approval import read_token
from mlops_lab.monitoring.in_memory import InMemoryDrift
from mlops_lab.monitoring.window import Window
from mlops_lab.pipelines import train
from mlops_lab.pipelines.handlers import TRAINING, WATCHING
from mlops_lab.pipelines.judge import judge_version
from mlops_lab.pipelines.orders import IngestBatch, PromoteModel, TrainModel
from mlops_lab.pipelines.promote import promote
from mlops_lab.pipelines.ship import ship
from mlops_lab.pipelines.train import gather, make, probabilities_of, register, scorer_of
from mlops_lab.pipelines.worker import Worker, settled
from mlops_lab.registry.candidate import Candidate
from mlops_lab.registry.catalog import Registered
from mlops_lab.registry.in_memory import InMemoryCatalog
from mlops_lab.registry.judge import JudgeLimits, Judgement
from mlops_lab.registry.version import ModelVersion
from mlops_lab.retraining.policy import Policy
from mlops_lab.serving.prediction_log import PredictionLog
from mlops_lab.settings import Settings, StoreSettings
from mlops_lab.training import export
from mlops_lab.training.rows import TrainingRows
from parcel_builders import FEATURES, MODEL, Parcels, parcels, week

NOW = datetime(2026, 1, 1, tzinfo=UTC)
"""Wall time of everything in these tests."""


class RememberingCatalog(InMemoryCatalog):
    """Can be carried over to another process of the same home, as a tracking server would."""

    def __init__(self, candidates: Iterable[Candidate] = ()) -> None:
        super().__init__(MODEL)
        self.candidates: list[Candidate] = []
        for candidate in candidates:
            self.register(candidate)

    def register(self, candidate: Candidate) -> Registered:
        registered = super().register(candidate)
        if registered.number > len(self.candidates):
            self.candidates.append(candidate)
        return registered


class CheckedBus(SqliteBus):
    """Whatever a test lets the platform publish has to be what its type says."""

    def __init__(self, path: Path, types: EventTypes) -> None:
        super().__init__(path)
        self._types = types

    def publish(self, topic: str, messages: Iterable[Message]) -> int:
        return super().publish(topic, [self._types.checked(message, topic) for message in messages])


class SmallLab(Lab):
    """A lab of parcels: its stores are real, its frameworks are their twins."""

    def __init__(self, home: Path, candidates: Iterable[Candidate] = (), stores: StoreSettings | None = None) -> None:
        super().__init__(Settings(home=home, stores=stores or StoreSettings()), FixedClock(NOW))
        self._candidates = tuple(candidates)

    @cached_property
    def use_case(self) -> Parcels:  # type: ignore[override]
        return Parcels()

    @property
    def model(self) -> str:
        return MODEL

    @cached_property
    def bus(self) -> CheckedBus:
        return CheckedBus(self.home / "bus.db", self.event_types)

    @cached_property
    def gate(self) -> PandasGate:
        return PandasGate()

    @cached_property
    def drift(self) -> InMemoryDrift:
        return InMemoryDrift()

    @cached_property
    def catalog(self) -> RememberingCatalog:
        return RememberingCatalog(self._candidates)

    @cached_property
    def policy(self) -> Policy:
        return Policy(k=2, n=2, cooldown=timedelta(days=14), min_labels=100, min_days=5)

    @cached_property
    def limits(self) -> JudgeLimits:
        return JudgeLimits(slices=("depot",), slice_rows=100, rows=200, days=7, latency_us=1e6)

    def again(self) -> "SmallLab":
        """The same home in another process."""
        return SmallLab(self.home, self.catalog.candidates, self.settings.stores)


def copied(lab: SmallLab, home: Path) -> SmallLab:
    """A home like this one, of its own."""
    shutil.copytree(lab.home, home)
    return SmallLab(home, lab.catalog.candidates)


def deliver(lab: Lab, window: Window, rows: pd.DataFrame | None = None, folder: str = "") -> IngestBatch:
    """Put a week's batch into the home's inbox; returns the order to take it in."""
    place = lab.home / "inbox" / (folder or window.id)
    write_batch(Batch(window.id, window.start, window.end, {"parcels": parcels(window) if rows is None else rows}), place)
    return IngestBatch(f"ingest-{folder or window.id}", window.end, OPERATOR, str(place), window.id)


def serve(
    lab: Lab,
    window: Window,
    *,
    rows: pd.DataFrame | None = None,
    turned: bool = False,
    version: int | None = None,
    shuffle: int | None = None,
    twice: bool = False,
    canary: int | None = None,
    replica: str = "replica-1",
) -> None:
    """Answer a week's parcels by a version (None: the champion) and hear what became of them, into a replica's prediction log.

    Args:
        rows: Parcels, as `parcels` gives them.
        turned: See `parcels`.
        shuffle: A seed; frames and outcomes come in another order.
        twice: Each tenth outcome is delivered again, later.
        canary: A version that answers each third request, as canary, and is always sure of the worst.
    """
    table = parcels(window, turned=turned) if rows is None else rows
    number = lab.ledger.champion().version if version is None else version
    assert number is not None
    asked = TrainingRows(
        table[[feature.name for feature in FEATURES]],
        np.zeros(len(table), dtype=np.bool_),
        table["parcel_id"].to_numpy(dtype=np.str_),
        table["asked_at"].dt.tz_localize(None).to_numpy(dtype="datetime64[us]"),
    )
    probabilities = probabilities_of(scorer_of(lab, number), asked)
    digest = lab.ledger.version(number).scorer_sha256
    frames = [_answers(number, digest, table.iloc[at : at + 60], probabilities[at : at + 60]) for at in range(0, len(table), 60)]
    if canary is not None:
        frames[::3] = [_by_canary(frame, canary) for frame in frames[::3]]
    known = table[table["hours_late"].notna()]
    frames += [_outcomes(known.iloc[at : at + 60]) for at in range(0, len(known), 60)]
    if shuffle is not None:
        frames = [frames[at] for at in np.random.default_rng(shuffle).permutation(len(frames))]
    if twice:
        frames += [_outcomes(known.iloc[::10])]
    log = PredictionLog(lab.home / "serving" / replica / "log")
    for frame in frames:
        log.append(frame)
    log.close()


def _answers(number: int, digest: str, rows: pd.DataFrame, probabilities: NDArray[np.float64]) -> dict[str, Any]:
    return {
        "kind": "predictions",
        "request_id": f"request-{rows['parcel_id'].iloc[0]}",
        "model": MODEL,
        "model_version": number,
        "scorer_sha256": digest,
        "assignment": 1,
        "variant": "champion",
        "purpose": "live",
        "answered_at": NOW,
        "rows": [
            {
                "prediction_id": f"answer-{row.parcel_id}",
                "entity": row.parcel_id,
                "moment": row.asked_at.to_pydatetime(),
                "features": [row.depot, row.weight_kg, row.load],
                "ages_s": {},
                "probability": float(probability),
            }
            for row, probability in zip(rows.itertuples(index=False), probabilities, strict=True)
        ],
    }


def _by_canary(frame: dict[str, Any], number: int) -> dict[str, Any]:
    rows = [row | {"probability": 0.97} for row in frame["rows"]]
    said = [row["probability"] for row in frame["rows"]]
    trial = {"canary": number, "champion": frame["model_version"], "canary_us": 40.0, "champion_us": 30.0, "error": None}
    answered = {"variant": "canary", "model_version": number, "scorer_sha256": "c" * 64, "assignment": 2, "rows": rows}
    return frame | answered | {"trial": trial | {"champion_probabilities": said}}


def _outcomes(rows: pd.DataFrame) -> dict[str, Any]:
    items = [
        {
            "event_id": f"delivered-{row.parcel_id}",
            "prediction_id": f"answer-{row.parcel_id}",
            "revision": 0,
            "outcome": {"hours_late": row.hours_late},
            "at": row.delivered_at.to_pydatetime(),
        }
        for row in rows.itertuples(index=False)
    ]
    return {"kind": "feedback", "request_id": "r", "received_at": NOW, "items": items}


def a_training(at: datetime, origin: str = "first", **changes: Any) -> TrainModel:
    return TrainModel(f"train-{origin}-{at:%Y%m%d}", at, TRAINER, origin=origin, **changes)


def training_flow(order: TrainModel, lab: Lab) -> tuple[Judgement, ModelVersion]:
    """What `on_prefect.run_training_flow` does, without the orchestrator."""
    material = gather(order, lab)
    version = register(order, material, make(material, lab), lab)
    return judge_version(version, order.at, lab), version


def established(home: Path, stores: StoreSettings | None = None) -> SmallLab:
    """A home with six weeks of history, whose first model was trained at the start of week 7 and is champion."""
    from mlops_lab.pipelines.ingest import ingest

    lab = SmallLab(home, stores=stores)
    found(lab)
    for number in range(1, 7):
        ingest(deliver(lab, week(number)), lab)
    order = a_training(week(7).start)
    judgement, version = training_flow(order, lab)
    assert judgement.outcome == "promote", judgement.because
    lab.approvals.approve(version.number, read_token(lab.keys / f"{APPROVER}.token"), "looks right", order.at)
    promote(version.number, order.at, OPERATOR, lab)
    return lab


def turned_round(home: Path) -> SmallLab:
    """Six weeks of history and a champion; then the world turned round, and four weeks of answers are closed and not decided. Somebody
    trained version 2, which the judge was for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mlops_lab.pipelines.train.MIN_ROWS", 500)
        lab = established(home)
        for number in range(7, 11):
            serve(lab, week(number), turned=True)
        ship(lab)
        judgement, _ = training_flow(a_training(week(10).closes_at, "turned"), lab)
    assert judgement.outcome == "promote", judgement.because
    return lab


@contextmanager
def small_numbers() -> Iterator[None]:
    """Small numbers where the product's are large, and the flow without its orchestrator."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(train, "MIN_ROWS", 500)
        patched.setattr(export, "PARITY_ROWS", 300)
        patched.setitem(sys.modules, "mlops_lab.pipelines.on_prefect", SimpleNamespace(run_training_flow=training_flow))  # type: ignore[arg-type]
        yield


def on_control(lab: SmallLab, *types: str) -> list[Message]:
    """The control messages of some types, those in the outbox included."""
    relay(lab.outbox, lab.bus)
    return [delivery.message for delivery in lab.bus.read(CONTROL, 0, limit=10_000) if delivery.message.type in types]


def give(lab: SmallLab, *orders: IngestBatch | TrainModel | PromoteModel) -> None:
    lab.bus.publish(CONTROL, [order.to_message("test") for order in orders])


def work(lab: SmallLab) -> None:
    """Let both workers do all there is to do."""
    watcher, trainer = Worker(lab, WATCHING), Worker(lab, TRAINING)
    while not settled(lab):
        watcher.step()
        trainer.step()


def reach(lab: SmallLab, number: int) -> None:
    """Event time comes to the moment at which a week is closed; all that follows is done."""
    at = week(number).closes_at
    lab.bus.publish(CONTROL, [Message("ClockReached", at, "clock", {}, id=f"clock-{at:%Y%m%dT%H%MZ}")])
    work(lab)


def served(lab: SmallLab, *numbers: int, **how: Any) -> None:
    for number in numbers:
        serve(lab, week(number), **how)
    ship(lab)
