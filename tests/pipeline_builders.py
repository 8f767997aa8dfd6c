"""A use case of a few hundred parcels a week, and a lab in which it is trained and watched within seconds.

A parcel is late when the load of the depot is high, until something changes and it is the other way round.
"""

import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from typing_extensions import TypedDict

from mlops_lab.bootstrap import Lab
from mlops_lab.bootstrap.founding import found
from mlops_lab.bootstrap.identities import APPROVER, OPERATOR, TRAINER
from mlops_lab.clock import FixedClock
from mlops_lab.data.batch_files import write_batch
from mlops_lab.data.schema import Column, TableSchema
from mlops_lab.data.snapshot import Batch
from mlops_lab.events import CONTROL, Message, relay
from mlops_lab.events.on_sqlite import SqliteBus
from mlops_lab.events.schema import EventTypes
from mlops_lab.features import Feature, Kind
from mlops_lab.gates import Expectation, PandasGate
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
from mlops_lab.serving.fields import closed
from mlops_lab.serving.prediction_log import PredictionLog
from mlops_lab.settings import Settings, StoreSettings
from mlops_lab.training import export
from mlops_lab.training.recipe import Recipe
from mlops_lab.training.rows import TrainingRows

MODEL = "parcel-late"
PER_DAY = 60
FEATURES = (
    Feature("depot", Kind.CATEGORY, "", "where it leaves from"),
    Feature("weight_kg", Kind.NUMBER, "kg", "of the parcel"),
    Feature("load", Kind.NUMBER, "0 to 1", "of the depot"),
)
PARCELS = TableSchema(
    "parcels",
    (
        Column("parcel_id", "text", nullable=False),
        Column("asked_at", "moment", nullable=False),
        Column("depot", "text", nullable=False),
        Column("weight_kg", "number", nullable=False),
        Column("load", "number", nullable=False),
        Column("delivered_at", "moment"),
        Column("hours_late", "number"),
    ),
)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
"""Wall time of everything in these tests."""


@closed({"hours_late": -1.0})
class Delivered(TypedDict):
    """When a parcel came."""

    hours_late: float


class Parcels:
    """Keeps `UseCase`, as far as pipelines need it."""

    model = MODEL
    outcome = Delivered
    event_types = ()
    features = FEATURES
    recipe = Recipe("parcels", FEATURES, rounds=12, max_leaf_nodes=6, min_samples_leaf=20)
    tables = (PARCELS,)
    outcome_columns = (Column("hours_late", "number", nullable=False),)
    slices = ("depot",)
    watched = ("depot", "weight_kg", "load")

    def checked_tables(self, tables: Mapping[str, pd.DataFrame]) -> Mapping[str, pd.DataFrame]:
        return tables

    def checked_window(self, served: pd.DataFrame) -> pd.DataFrame:
        return served

    def batch_expectations(self, batch: Batch) -> Sequence[Expectation]:
        return (
            Expectation("parcels have the agreed columns", "parcels", "columns_exactly", {"columns": list(PARCELS.names)}),
            Expectation("every parcel is there once", "parcels", "unique", {"columns": ["parcel_id"]}),
            Expectation("weight is between 0 and 50 kg", "parcels", "between", {"column": "weight_kg", "low": 0, "high": 50}),
        )

    def window_expectations(self) -> Sequence[Expectation]:
        return (Expectation("weight is between 0 and 50 kg", "served", "between", {"column": "weight_kg", "low": 0, "high": 50}),)

    def history(self, tables: Mapping[str, pd.DataFrame], until: datetime) -> TrainingRows:
        rows = tables["parcels"].sort_values("parcel_id", ignore_index=True)
        rows = rows[rows["delivered_at"] <= until].reset_index(drop=True)
        return TrainingRows(
            rows[[feature.name for feature in FEATURES]],
            self.labels(rows),
            rows["parcel_id"].to_numpy(dtype=np.str_),
            rows["asked_at"].dt.tz_localize(None).to_numpy(dtype="datetime64[us]"),
        )

    def labels(self, rows: pd.DataFrame) -> NDArray[np.bool_]:
        return (rows["hours_late"] > 0).to_numpy(dtype=np.bool_)


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


def week(number: int) -> Window:
    return Window.of_week(f"2013-W{number:02d}")


def parcels(window: Window, *, turned: bool = False, per_day: int = PER_DAY) -> pd.DataFrame:
    """A week of parcels. Turned: those from an empty depot are the late ones."""
    count = 7 * per_day
    chance = np.random.default_rng(window.start.toordinal())
    load, depot = chance.random(count).round(3), chance.choice(np.array(["north", "south"], dtype=object), count)
    strength = 5.0 * (load - 0.5) * (-1 if turned else 1) + 0.5 * (depot == "south") - 0.5
    late = chance.random(count) < 1 / (1 + np.exp(-strength))
    asked = pd.Series(pd.date_range(window.start, periods=count, freq=pd.Timedelta(days=7) // count)).astype("datetime64[us, UTC]")
    return pd.DataFrame(
        {
            "parcel_id": [f"{window.id}-{i:04d}" for i in range(count)],
            "asked_at": asked,
            "depot": depot,
            "weight_kg": chance.uniform(0.1, 40, count).round(2),
            "load": load,
            "delivered_at": asked + pd.Timedelta(hours=3),
            "hours_late": np.where(late, 2.0, -1.0),
        }
    )


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
