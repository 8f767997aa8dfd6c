"""The feature store, on Feast: what it is told of our rows, and how rows get in. Slow to import: not where answers are given."""

import fcntl
import json
import sqlite3
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from types import FunctionType
from typing import Any, cast

import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, OnDemandFeatureView, PushSource, RepoConfig, RequestSource
from feast.data_source import PushMode
from feast.infra.registry.sql import SqlRegistryConfig
from feast.transformation.python_transformation import PythonTransformation
from feast.transformation.udf_rehydrate import resolve_udf
from feast.types import Bytes, Float64, Int64, String
from feast.value_type import ValueType

from mlops_lab.errors import FeatureStoreUnreachable
from mlops_lab.features.feast_layout import ENTITY_KEY_VERSION, PROJECT
from mlops_lab.features.on_demand import MOMENT_S, RowUseCase, finished, join_keys, place_of
from mlops_lab.features.redis_address import Address
from mlops_lab.features.rows import Progress, ProgressKeeper, RowRef, components_of
from mlops_lab.features.view import Kind

EVENT_AT, CREATED_AT = "event_timestamp", "created"
_OUTSIDE = ("feast", "redis", "sqlalchemy", "sqlite3")
"""Whose exceptions say that a store does not answer as it should; anything else is a mistake of ours."""


class FeastStore:
    """Implements `RowWriter`, through push sources.

    Args:
        folder: Holds the registry and the history of rows.
        use_case: Which rows there are, and how features are made of them.
        online: Where the online rows are: an SQLite file, or Redis.
        progress: Says beside them how far the stream is in.
    """

    def __init__(self, folder: Path, use_case: RowUseCase, online: Path | Address, progress: ProgressKeeper) -> None:
        self.folder = folder.resolve()
        self.use_case = use_case
        self._progress = progress
        self._online = online
        self._file = online.resolve() if isinstance(online, Path) else None
        self._where = str(online)
        self._store: FeatureStore | None = None
        self._identity: tuple[int, int] | None = None
        self._written_ns = 0

    def apply(self) -> None:
        """Tell the registry what there is. Again changes nothing and takes milliseconds; two processes may do it at once.

        Raises:
            FeatureStoreUnreachable: The registry or the online store cannot be written.
        """
        with self.outages():
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / "apply.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if self._file is not None:
                    self._file.parent.mkdir(parents=True, exist_ok=True)
                    with closing(sqlite3.connect(self._file)) as file:
                        file.execute("PRAGMA journal_mode = WAL")  # who reads must not wait for who writes
                self._store = FeatureStore(config=self._config())
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", "On demand feature view is an experimental feature")
                    self._store.apply(definitions(self.use_case, self.folder))
            self._identity = self._found()

    def write(self, rows: Mapping[RowRef, bytes], progress: Progress) -> None:
        """See RowWriter.write: one push for each view, with all its rows. A row has bytes: Feast takes empty ones for none."""
        views: dict[str, list[tuple[RowRef, bytes]]] = {}
        for ref, components in rows.items():
            views.setdefault(ref.view, []).append((ref, components))
        with self.outages():
            store = self.opened()
            at = self._now()
            for view in self.use_case.row_views:
                if mine := views.pop(view.name, None):
                    store.push(push_source(view.name), _table(view.join_keys, mine, at), to=PushMode.ONLINE)
        if views:
            raise KeyError(f"rows of unknown views: {sorted(views)}")
        self._progress.write(progress)

    def progress(self) -> Progress | None:
        return self._progress.read()

    def close(self) -> None:
        """Let go of what is open; it is opened again when it is needed."""
        self._progress.close()
        self._store = None

    def rows(self, wanted: Sequence[RowRef]) -> list[bytes | None]:
        """Rows as Feast itself reads them: the measure for the readers that do without it. Raises FeatureStoreUnreachable."""
        join_keys = {view.name: view.join_keys for view in self.use_case.row_views}
        with self.outages():
            store = self.opened()
            return [
                store.get_online_features(
                    features=[f"{ref.view}:{components_of(ref.view)}"], entity_rows=[dict(zip(join_keys[ref.view], ref.key, strict=True))]
                ).to_dict()[components_of(ref.view)][0]
                for ref in wanted
            ]

    def opened(self) -> FeatureStore:
        """Opened anew where the file was removed or put back: what is open lives on, and nobody else can see it."""
        if self._store is None or self._identity != self._found():
            self.apply()
        assert self._store is not None
        return self._store

    def _found(self) -> tuple[int, int] | None:
        """Which file the online rows are in."""
        if self._file is None:
            return None
        try:
            stat = self._file.stat()
        except FileNotFoundError:
            return None
        return stat.st_dev, stat.st_ino

    def _now(self) -> pd.Timestamp:
        """The time of a write, to the microsecond, later than that of each former one."""
        self._written_ns = max(time.time_ns() // 1000 * 1000, self._written_ns + 1000)
        return pd.Timestamp(self._written_ns, unit="ns", tz="UTC")

    def _config(self) -> RepoConfig:
        online: dict[str, Any] = {"type": "sqlite", "path": str(self._file)}
        if isinstance(self._online, Address):
            # Feast can leave out rows whose event time is not newer than what is there. A late fact changes a row without a newer event
            # time, and a clock may be put back; a row has one writer and is a function of its facts, so what is written last is right.
            online = {"type": "redis", "connection_string": connection_string(self._online), "skip_dedup": True}
        return RepoConfig(
            project=PROJECT,
            provider="local",
            repo_path=self.folder,
            registry=SqlRegistryConfig(path=f"sqlite:///{self.folder / 'registry.db'}"),
            online_store=online,
            offline_store={"type": "duckdb"},
            entity_key_serialization_version=ENTITY_KEY_VERSION,
        )

    @contextmanager
    def outages(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise FeatureStoreUnreachable.at(self._where, str(error)) from error
        except Exception as error:
            if any(kind.__module__.partition(".")[0] in _OUTSIDE for kind in type(error).__mro__):
                raise FeatureStoreUnreachable.at(self._where, f"{type(error).__name__}: {error}") from error
            raise


def connection_string(address: Address, timeout_s: float = 10.0) -> str:
    """An address in Feast's words. Raises FeatureStoreUnreachable where the password file cannot be read."""
    parts: dict[str, Any] = {"db": address.database, "socket_timeout": timeout_s, "socket_connect_timeout": timeout_s}
    parts |= {"ssl": True} if address.tls else {}
    parts |= {name: said for name, said in (("username", address.user), ("password", address.secret())) if said}
    # Feast cuts the string at commas and reads each value as JSON, in which a comma can be written in another way.
    written = [f"{name}={json.dumps(said)}".replace(",", "\\u002c") for name, said in parts.items()]
    return ",".join([f"{address.host}:{address.port}", *written])


def history_file(folder: Path, view: str) -> Path:
    """Where the history of a view's rows is: what training sets are joined from."""
    return folder / "history" / f"{view}.parquet"


def push_source(view: str) -> str:
    """The name of the push source of a view."""
    return f"{view}_push"


def on_demand_view(use_case: RowUseCase) -> str:
    """The name of the view that finishes the arithmetic."""
    return f"{use_case.model.replace('-', '_')}_features"


def definitions(use_case: RowUseCase, folder: Path) -> list[Any]:
    """A use case in Feast's terms: entities, a view with a push source for each row view, and the view that finishes the arithmetic."""
    entities = {key: Entity(name=key, join_keys=[key], value_type=ValueType.STRING) for key in join_keys(use_case.row_views)}
    views = []
    for view in use_case.row_views:
        history = FileSource(
            name=f"{view.name}_history",
            path=str(history_file(folder, view.name)),
            timestamp_field=EVENT_AT,
            created_timestamp_column=CREATED_AT,
        )
        keys = [Field(name=key, dtype=String) for key in view.join_keys]
        views.append(
            FeatureView(
                name=view.name,
                entities=[entities[key] for key in view.join_keys],
                ttl=timedelta(seconds=view.window_s or 0),
                schema=[*keys, Field(name=components_of(view.name), dtype=Bytes)],
                source=PushSource(name=push_source(view.name), batch_source=history),
                description=view.meaning,
            )
        )
    return [*entities.values(), *views, _on_demand(use_case, views)]


class _Finishing(PythonTransformation):
    """Its results are declared. Feast would try it on made-up bytes to learn them, and no row looks like those."""

    declared: Sequence[Field] = ()

    def infer_features(self, *_: Any, **__: Any) -> list[Field]:
        return list(self.declared)


def _on_demand(use_case: RowUseCase, views: Sequence[FeatureView]) -> OnDemandFeatureView:
    # Feast keeps the text of the function and runs it wherever the registry is read: so it only says where the real one is.
    name = on_demand_view(use_case)
    text = f"def {name}(columns):\n    from {finished.__module__} import finished, use_case_at\n"
    text += f"    return finished(use_case_at({place_of(use_case)!r}), columns)\n"
    finishing = _Finishing(cast(FunctionType, resolve_udf(udf_string=text, body=None, preferred_name=name)), text)
    finishing.declared = [
        Field(name=feature.name, dtype=Float64 if feature.kind == Kind.NUMBER else String, description=feature.meaning)
        for feature in use_case.features
    ]
    asked = [Field(name=field.column, dtype=Int64 if field.moment else Float64) for field in use_case.asked_fields]
    return OnDemandFeatureView(
        name=name,
        sources=[*views, RequestSource(name="question", schema=[Field(name=MOMENT_S, dtype=Int64), *asked])],
        schema=finishing.declared,
        mode="python",
        feature_transformation=finishing,
        description="What the model reads, finished at the moment of the question.",
    )


def _table(keys: Sequence[str], rows: Sequence[tuple[RowRef, bytes]], at: pd.Timestamp) -> pd.DataFrame:
    columns: dict[str, Any] = {key: [ref.key[place] for ref, _ in rows] for place, key in enumerate(keys)}
    return pd.DataFrame({**columns, components_of(rows[0][0].view): [components for _, components in rows], EVENT_AT: at, CREATED_AT: at})
