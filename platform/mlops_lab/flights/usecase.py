"""Will this flight arrive more than 15 minutes late? The use case, whole."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlops_lab.data.schema import Column, TableSchema
from mlops_lab.data.snapshot import Batch
from mlops_lab.events import Message
from mlops_lab.features import Ask
from mlops_lab.features.asked import PastQuestion
from mlops_lab.flights import messages, schema, source
from mlops_lab.flights import published as published_facts
from mlops_lab.flights.offline import features_as_of, history_features
from mlops_lab.flights.online_usecase import FlightsOnline
from mlops_lab.flights.request import LATE_AFTER_MIN
from mlops_lab.flights.transform import ASKED_BEFORE_DEPARTURE, FEATURES
from mlops_lab.gates.expectation import Expectation
from mlops_lab.training.recipe import Recipe
from mlops_lab.training.rows import TrainingRows

SLICES = ("origin", "carrier")
WATCHED = (
    "origin",
    "carrier",
    "minute_of_day",
    "distance_miles",
    "temperature_f",
    "humidity_pct",
    "wind_speed_mph",
    "visibility_miles",
    "origin_delay_3h_min",
    "destination_delay_6h_min",
    "aircraft_delay_min",
)
RECIPE = Recipe(name="late-arrival", features=FEATURES, rounds=150, learning_rate=0.1, max_leaf_nodes=31, min_samples_leaf=20)


class Flights(FlightsOnline):
    """Implements `UseCase`.

    Args:
        folder: Where `flights.fetch` put the data; only the register of aircraft is read from it, the rest arrives in batches.
    """

    recipe: Recipe = RECIPE
    tables: tuple[TableSchema, ...] = schema.TABLES
    outcome_columns: tuple[Column, ...] = (Column("arrival_delay_min", "integer", nullable=False),)
    slices: tuple[str, ...] = SLICES
    watched: tuple[str, ...] = WATCHED

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def checked_tables(self, tables: Mapping[str, pd.DataFrame]) -> Mapping[str, pd.DataFrame]:
        return schema.checked_tables(tables)

    def checked_window(self, served: pd.DataFrame) -> pd.DataFrame:
        return served.assign(**{schema.HUMIDITY_GAP: schema.humidity_gap(served)})

    def batch_expectations(self, batch: Batch) -> Sequence[Expectation]:
        return schema.batch_expectations(batch)

    def window_expectations(self) -> Sequence[Expectation]:
        return schema.window_expectations()

    def history(self, tables: Mapping[str, pd.DataFrame], until: datetime) -> TrainingRows:
        """The flights that had arrived by then; those that never arrive have no label and are left out of training, not of the tables."""
        flights = tables["flights"].sort_values("flight_id", ignore_index=True)
        features = history_features(flights, tables["weather"], source.aircraft(self._folder))
        known = (flights["arrived_at"] <= until).to_numpy()
        moments = (flights["scheduled_departure"] - ASKED_BEFORE_DEPARTURE).dt.tz_localize(None)
        return TrainingRows(
            features=features[known].reset_index(drop=True),
            labels=(flights["arrival_delay_min"] > LATE_AFTER_MIN).to_numpy(dtype=np.bool_)[known],
            keys=flights["flight_id"].to_numpy(dtype=np.str_)[known],
            moments=moments.to_numpy(dtype="datetime64[us]")[known],
        )

    def questions(self, answers: pd.DataFrame, published: Iterable[Message]) -> Sequence[PastQuestion]:
        return published_facts.questions(answers, published)

    def planned(self, plan: Message) -> Ask:
        return published_facts.scheduled(plan)

    def accepted_plan(self, tables: Mapping[str, pd.DataFrame], entity: str) -> Ask | None:
        return published_facts.accepted_plan(tables["flights"], entity)

    def accepted_names(self, tables: Mapping[str, pd.DataFrame]) -> Iterable[str]:
        return map(str, tables["flights"]["flight_id"])

    def features_from(self, asks: Sequence[Ask], facts: Iterable[Message]) -> pd.DataFrame:
        flights, moments = published_facts.planned(asks)
        return features_as_of(flights, moments, published_facts.happened(facts))

    def facts(self, tables: Mapping[str, pd.DataFrame], after: datetime, until: datetime) -> Iterator[Message]:
        def within(table: pd.DataFrame, moment: str) -> Iterator[Any]:
            rows: Iterator[Any] = table[(table[moment] > after) & (table[moment] <= until)].itertuples(index=False)
            return rows

        yield from messages.aircraft(source.aircraft(self._folder), after)
        yield from map(messages.observed, within(tables["weather"], "observed_at"))
        yield from map(messages.departed, within(tables["flights"], "departed_at"))
        yield from map(messages.arrived, within(tables["flights"], "arrived_at"))

    def labels(self, rows: pd.DataFrame) -> NDArray[np.bool_]:
        late: NDArray[np.bool_] = (rows["arrival_delay_min"] > LATE_AFTER_MIN).to_numpy(dtype=np.bool_)
        return late
