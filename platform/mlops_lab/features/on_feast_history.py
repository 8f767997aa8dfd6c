"""Training sets out of Feast: the history of rows as its offline store, and questions joined with it at their moments."""

from collections.abc import Iterable, Sequence

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mlops_lab.errors import NotEnoughData
from mlops_lab.features.history import RowAt
from mlops_lab.features.on_demand import columns_of
from mlops_lab.features.on_feast import CREATED_AT, EVENT_AT, FeastStore, history_file, on_demand_view
from mlops_lab.features.on_feast_services import VersionService
from mlops_lab.features.rows import components_of
from mlops_lab.features.view import Ask, Kind

_CHUNK = 50_000
_PLACE = "asked_as"
"""The number of a question: Feast keeps no order."""


def write_history(store: FeastStore, states: Iterable[RowAt]) -> dict[str, int]:
    """Put a history of rows in the place of the former one.

    Args:
        store: Whose offline store it is.
        states: See `features.history.history`.

    Returns:
        How many states of each view there are.

    Raises:
        FeatureStoreUnreachable: It cannot be written; the former one stands.
    """
    views = {view.name: view for view in store.use_case.row_views}
    schemas = {
        name: pa.schema(
            [*((key, pa.string()) for key in view.join_keys), (components_of(name), pa.binary()), (EVENT_AT, _TIME), (CREATED_AT, _TIME)]
        )
        for name, view in views.items()
    }
    waiting: dict[str, list[RowAt]] = {name: [] for name in views}
    counts = dict.fromkeys(views, 0)
    with store.outages():
        files = {name: history_file(store.folder, name) for name in views}
        files[next(iter(files))].parent.mkdir(parents=True, exist_ok=True)
        writers = {name: pq.ParquetWriter(file.with_suffix(".tmp"), schemas[name]) for name, file in files.items()}
        try:
            for state in states:
                mine = waiting[state.ref.view]
                mine.append(state)
                counts[state.ref.view] += 1
                if len(mine) >= _CHUNK:
                    writers[state.ref.view].write_table(_table(mine, schemas[state.ref.view]))
                    mine.clear()
            for name, mine in waiting.items():
                writers[name].write_table(_table(mine, schemas[name]))
        finally:
            for writer in writers.values():
                writer.close()
        for file in files.values():
            file.with_suffix(".tmp").replace(file)
    return counts


def historical(store: FeastStore, asks: Sequence[Ask], service: VersionService | None = None) -> pd.DataFrame:
    """The features of each question as known at its moment, by Feast's own point-in-time join.

    Args:
        store: Whose offline store is joined.
        asks: The questions.
        service: The model version whose features are wanted; all of the use case where it is left out.

    Returns:
        One row per question, in their order; columns are the features, numbers as float64 with NaN for unknown.

    Raises:
        NotEnoughData: No history was written yet.
        FeatureStoreUnreachable: The offline store does not answer.
    """
    use_case = store.use_case
    if not all(history_file(store.folder, view.name).is_file() for view in use_case.row_views):
        raise NotEnoughData("The offline store has no history of rows yet.", "write it with `lab features history`.")
    names = [feature.name for feature in use_case.features] if service is None else list(service.features)
    questions = pd.DataFrame(columns_of(use_case, asks))
    questions[_PLACE] = range(len(asks))
    questions[EVENT_AT] = pd.to_datetime([ask.moment for ask in asks], utc=True)
    with store.outages():
        view = on_demand_view(use_case)
        feast = store.opened()
        wanted = [f"{view}:{name}" for name in names] if service is None else feast.get_feature_service(service.name)
        # Full names: carrier, origin and destination are join keys and features.
        found = feast.get_historical_features(questions, wanted, full_feature_names=True).to_df()
    ordered = found.sort_values(_PLACE, ignore_index=True)[[f"{view}__{name}" for name in names]].set_axis(names, axis=1)
    return ordered.astype(
        {feature.name: "float64" for feature in use_case.features if feature.kind == Kind.NUMBER and feature.name in names}
    )


_TIME = pa.timestamp("us", tz="UTC")


def _table(states: Sequence[RowAt], schema: pa.Schema) -> pa.Table:
    keys = [[state.ref.key[place] for state in states] for place in range(len(schema.names) - 3)]
    moments = [state.at for state in states]
    return pa.table([*keys, [state.components for state in states], moments, moments], schema=schema)
