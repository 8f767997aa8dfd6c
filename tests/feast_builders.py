"""Feast itself, with the views of flights and nothing else: what our readers of its tables are held to."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, PushSource, RepoConfig, ValueType
from feast.data_source import PushMode
from feast.types import Bytes

from mlops_lab.features import Ask, Value
from mlops_lab.features.feast_layout import ENTITY_KEY_VERSION, PROJECT
from mlops_lab.features.on_demand import columns_of
from mlops_lab.features.on_feast import FeastStore
from mlops_lab.features.rows import Progress, RowRef, components_of
from mlops_lab.flights.online_usecase import FlightsOnline
from mlops_lab.flights.rows import VIEWS


def a_feast_store(folder: Path, online: Mapping[str, Any]) -> FeatureStore:
    """A store whose views are applied and empty; `online` says where rows are, as Feast's `online_store` does."""
    config = RepoConfig(
        project=PROJECT,
        provider="local",
        registry=str(folder / "registry.db"),
        online_store=dict(online),
        offline_store={"type": "file"},
        entity_key_serialization_version=ENTITY_KEY_VERSION,
    )
    store = FeatureStore(config=config)
    entities = {key: Entity(name=key, join_keys=[key], value_type=ValueType.STRING) for view in VIEWS for key in view.join_keys}
    views = []
    for view in VIEWS:
        batch = FileSource(name=f"{view.name}_file", path=str(folder / f"{view.name}.parquet"), timestamp_field="event_timestamp")
        source = PushSource(name=f"{view.name}_push", batch_source=batch)
        schema = [Field(name=components_of(view.name), dtype=Bytes)]
        keys = [entities[key] for key in view.join_keys]
        views.append(FeatureView(name=view.name, entities=keys, schema=schema, source=source, online=True))
    store.apply([*entities.values(), *views])
    return store


def push(store: FeatureStore, rows: Mapping[RowRef, bytes], at: datetime | None = None) -> None:
    """Write rows as Feast's push source does."""
    for view in VIEWS:
        mine = {ref: row for ref, row in rows.items() if ref.view == view.name}
        if mine:
            table = pd.DataFrame([ref.key for ref in mine], columns=list(view.join_keys))
            table[components_of(view.name)] = list(mine.values())
            table["event_timestamp"] = at or datetime.now(UTC)
            store.push(f"{view.name}_push", table, to=PushMode.ONLINE)


def rows_of_each_kind(rows: Mapping[RowRef, bytes], of_each: int = 5) -> dict[RowRef, bytes]:
    """Some rows of each view."""
    return {ref: rows[ref] for view in VIEWS for ref in [ref for ref in rows if ref.view == view.name][:of_each]}


SAID = Progress({"observations": (3, 4), "references": (1,)}, 1_364_800_000, 1.7e9, "epoch-1")


class Kept:
    """Implements `ProgressKeeper` in memory."""

    def __init__(self) -> None:
        self.said: Progress | None = None

    def read(self) -> Progress | None:
        return self.said

    def write(self, said: Progress) -> None:
        self.said = said

    def close(self) -> None:
        pass


def a_store(folder: Path, kept: Kept | None = None) -> FeastStore:
    return FeastStore(folder / "feast", FlightsOnline(), folder / "online.db", kept or Kept())


def answers_of_feast(store: FeastStore, service: str, asks: Sequence[Ask]) -> list[tuple[Value, ...]]:
    """What Feast itself answers from its online store, in the order of the use case's features."""
    columns = columns_of(store.use_case, asks)
    entity_rows = [{name: values[place] for name, values in columns.items()} for place in range(len(asks))]
    feast = store.opened()
    # Short names: asked for full ones, Feast gives back the keys and leaves out what a Python view computed.
    told = feast.get_online_features(feast.get_feature_service(service), entity_rows).to_dict()
    return list(zip(*(told[feature.name] for feature in store.use_case.features), strict=True))
