"""A use case of a few hundred parcels a week.

A parcel is late when the load of the depot is high, until something changes and it is the other way round.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from typing_extensions import TypedDict

from mlops_lab.data.schema import Column, TableSchema
from mlops_lab.data.snapshot import Batch
from mlops_lab.features import Feature, Kind
from mlops_lab.gates import Expectation
from mlops_lab.monitoring.window import Window
from mlops_lab.serving.fields import closed
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
