"""Rows that Feast pushed to a real Redis are read back byte for byte, with the progress that stands beside them."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis

from feast_builders import a_feast_store, push, rows_of_each_kind
from mlops_lab.errors import FeatureStoreUnreachable
from mlops_lab.features.feast_layout import Layout
from mlops_lab.features.on_redis import RedisProgress, RedisRows
from mlops_lab.features.redis_address import Address
from mlops_lab.features.rows import Progress, RowRef
from mlops_lab.flights.messages import LISTED, Message
from mlops_lab.flights.online_usecase import FlightsOnline
from mlops_lab.flights.rows import AIRCRAFT, ORIGIN, VIEWS
from mlops_lab.flights.source import Year
from mlops_lab.flights.timeline import Timeline

MONDAY = datetime(2013, 4, 1, tzinfo=UTC)
LAYOUT = Layout(VIEWS)
SAID = Progress({"observations": (3, 0, 7)}, 1_365_000_000, 1_700_000_000.25, "e1")


@pytest.fixture
def address(redis_url: str) -> Address:
    return Address.of(redis_url)


def test_rows_that_feast_pushed_are_read_back_byte_for_byte(tmp_path: Path, year: Year, redis_url: str, address: Address) -> None:
    state = FlightsOnline().row_state()
    for step in Timeline(year, seed=7).steps(MONDAY, MONDAY + timedelta(hours=15), questions=False):
        state.apply(step.facts)
    state.apply([Message(LISTED, MONDAY, "N14228", {"seats": 149.0, "built": None})])
    rows = rows_of_each_kind(state.rows())
    assert {ref.view for ref in rows} == {view.name for view in VIEWS}
    where = urlsplit(redis_url)
    connection = f"{where.hostname}:{where.port},db={where.path.strip('/')}"
    push(a_feast_store(tmp_path, {"type": "redis", "connection_string": connection}), rows)
    book = RedisProgress(address)
    book.write(SAID)
    reader = RedisRows(address, LAYOUT, deadline_s=5)

    found = reader.read([*rows, RowRef(AIRCRAFT.name, ("N0NE",))])

    assert found.rows == [*rows.values(), None]
    assert found.progress == SAID
    assert book.read() == SAID
    book.close()
    reader.close()


def test_another_type_under_the_key_leaves_that_row_out(redis_url: str, address: Address) -> None:
    ref, other = RowRef(ORIGIN.name, ("EWR",)), RowRef(ORIGIN.name, ("JFK",))
    with redis.Redis.from_url(redis_url) as server:
        server.set(LAYOUT.redis_key(ref), "a string")
        server.hset(LAYOUT.redis_key(other), LAYOUT.redis_field(ORIGIN.name), b"\x12\x03abc")
        server.hset("lab:features:mlops_lab:progress", "a", "hash")
    reader = RedisRows(address, LAYOUT, deadline_s=5)

    found = reader.read([ref, other])

    assert found.rows == [None, None]
    assert found.unusable == 2
    assert found.progress is None
    reader.close()


def test_an_empty_database_has_no_rows_and_no_progress(address: Address) -> None:
    reader = RedisRows(address, LAYOUT, deadline_s=5)

    assert reader.read([RowRef(ORIGIN.name, ("EWR",))]) == ([None], None, 0)
    reader.close()


def test_a_wrong_password_is_said(address: Address, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("wrong\n")
    reader = RedisRows(Address(address.host, address.port, address.database, password_file=file), LAYOUT)

    with pytest.raises(FeatureStoreUnreachable, match="AUTH") as raised:
        reader.progress()

    assert raised.value.reason == "credentials"
    assert "wrong" not in str(raised.value)
    reader.close()
