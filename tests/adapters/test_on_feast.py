"""What only Feast can show: rows pushed through it are in its online store as they were given, and the last write is what stands."""

import multiprocessing
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from feast.infra.online_stores.redis import RedisOnlineStore

from feast_builders import SAID, Kept, a_store
from mlops_lab.bootstrap.feature_store import feature_store
from mlops_lab.errors import FeatureStoreUnreachable, SettingsWrong
from mlops_lab.features.feast_layout import Layout
from mlops_lab.features.on_feast import connection_string
from mlops_lab.features.on_sqlite import FILE, SqliteRows
from mlops_lab.features.redis_address import Address
from mlops_lab.features.rows import RowRef
from mlops_lab.flights.online_usecase import FlightsOnline
from mlops_lab.settings import FeatureSettings, Settings

EWR, UNITED, NOBODY = RowRef("origin_departures", ("EWR",)), RowRef("carrier_departures", ("EWR", "UA")), RowRef("aircraft_delays", ("",))


def test_rows_are_in_the_online_store_as_they_were_written(tmp_path: Path) -> None:
    store = a_store(tmp_path)
    rows = {EWR: b"\x00\xff one", UNITED: b"two", NOBODY: b"\x00"}

    store.write(rows, SAID)

    assert store.rows([*rows, RowRef("origin_departures", ("JFK",))]) == [*rows.values(), None]
    assert store.progress() == SAID


def test_what_is_written_last_stands_although_the_clock_was_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A late fact changes a row without being newer, so nothing may depend on which time is greater."""
    a_store(tmp_path).write({EWR: b"first"}, SAID)
    monkeypatch.setattr("time.time_ns", lambda: 1_000_000_000_000_000_000)

    another = a_store(tmp_path)
    another.write({EWR: b"second"}, SAID)

    assert another.rows([EWR]) == [b"second"]


def test_progress_is_not_written_when_rows_could_not_be(tmp_path: Path) -> None:
    kept = Kept()
    store = a_store(tmp_path, kept)
    store.apply()
    with closing(sqlite3.connect(tmp_path / "online.db")) as file:
        file.execute("DROP TABLE mlops_lab_origin_departures")

    with pytest.raises(FeatureStoreUnreachable):
        store.write({EWR: b"row"}, SAID)

    assert kept.said is None


def test_a_store_that_was_emptied_under_a_writer_is_made_anew(tmp_path: Path) -> None:
    store = a_store(tmp_path)
    store.write({EWR: b"lost"}, SAID)
    for path in tmp_path.glob("online.db*"):
        path.unlink()

    store.write({UNITED: b"kept"}, SAID)

    assert a_store(tmp_path).rows([EWR, UNITED]) == [None, b"kept"]


def test_rows_of_a_view_that_nobody_declared_are_a_mistake(tmp_path: Path) -> None:
    kept = Kept()
    with pytest.raises(KeyError, match="nonsense"):
        a_store(tmp_path, kept).write({RowRef("nonsense", ("x",)): b"row"}, SAID)
    assert kept.said is None


def test_a_password_reaches_redis_as_it_is() -> None:
    """Feast cuts its connection string at commas and guesses types: a password of digits, or with a comma, is a trap."""
    for password in ("1234", "true", "a,b=c", 'quote"d', "ü"):
        said = connection_string(Address("redis.example", 6380, 3, tls=True, user="lab", password=password))
        nodes, parts = RedisOnlineStore._parse_connection_string(said)
        assert nodes == [{"host": "redis.example", "port": "6380"}]
        assert (parts["password"], parts["username"], parts["db"], parts["ssl"]) == (password, "lab", 3, True)


def test_a_home_without_an_online_store_says_how_to_choose_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsWrong, match="lab up --with"):
        feature_store(Settings(home=tmp_path))


def test_a_home_has_the_store_that_its_settings_name(tmp_path: Path) -> None:
    with closing(feature_store(Settings(home=tmp_path, features=FeatureSettings(store="sqlite")))) as store:
        store.write({EWR: b"row"}, SAID)
    rows = SqliteRows(tmp_path / FILE, Layout(FlightsOnline().row_views), deadline_s=5)
    try:
        assert rows.read([EWR]) == ([b"row"], SAID, 0)
    finally:
        rows.close()


def test_two_processes_tell_the_registry_at_once_and_again(tmp_path: Path) -> None:
    spawned = multiprocessing.get_context("spawn")
    both = [spawned.Process(target=_apply, args=(tmp_path,)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
    assert [process.exitcode for process in both] == [0, 0]

    before = _registry(tmp_path)
    a_store(tmp_path).apply()

    assert len(before) == 7
    assert _registry(tmp_path) == before


def _apply(folder: Path) -> None:
    a_store(folder).apply()


def _registry(folder: Path) -> list[Any]:
    with closing(sqlite3.connect(folder / "feast" / "registry.db")) as file:
        views = file.execute("SELECT feature_view_name, feature_view_proto, last_updated_timestamp FROM feature_views").fetchall()
        views += file.execute(
            "SELECT feature_view_name, feature_view_proto, last_updated_timestamp FROM on_demand_feature_views"
        ).fetchall()
    return sorted(views)
