"""Our reading of Feast's tables, held to Feast itself: the same keys, the same fields, the same bytes."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.helpers import _mmh3, _redis_key
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from hypothesis import given
from hypothesis import strategies as st

from feast_builders import a_feast_store, push, rows_of_each_kind
from mlops_lab.features.feast_layout import Layout, from_value_proto, to_value_proto
from mlops_lab.features.on_sqlite import SqliteRows
from mlops_lab.features.rows import RowRef
from mlops_lab.flights import messages
from mlops_lab.flights.online_usecase import FlightsOnline
from mlops_lab.flights.rows import AIRCRAFT, CARRIER, ORIGIN, VIEWS
from mlops_lab.flights.source import Year
from mlops_lab.flights.timeline import Timeline

MONDAY = datetime(2013, 4, 1, tzinfo=UTC)
LAYOUT = Layout(VIEWS)


def feasts_key(names: tuple[str, ...], values: tuple[str, ...]) -> EntityKey:
    return EntityKey(join_keys=names, entity_values=[Value(string_val=value) for value in values])


@given(st.text(max_size=40), st.text(max_size=40))
def test_entity_keys_are_those_of_feast(origin: str, carrier: str) -> None:
    one, two = RowRef(ORIGIN.name, (origin,)), RowRef(CARRIER.name, (origin, carrier))

    assert LAYOUT.entity_key(one) == serialize_entity_key(feasts_key(ORIGIN.join_keys, (origin,)), 3)
    assert LAYOUT.entity_key(two) == serialize_entity_key(feasts_key(CARRIER.join_keys, (origin, carrier)), 3)
    assert LAYOUT.redis_key(two) == _redis_key("mlops_lab", feasts_key(CARRIER.join_keys, (origin, carrier)), 3)


def test_fields_in_redis_are_those_of_feast() -> None:
    for view in VIEWS:
        assert LAYOUT.redis_field(view.name) == _mmh3(f"{view.name}:{view.name}_components")


@given(st.binary(max_size=400))
def test_values_are_those_of_feast(row: bytes) -> None:
    assert to_value_proto(row) == Value(bytes_val=row).SerializeToString()
    assert from_value_proto(to_value_proto(row)) == row


def test_a_long_row_is_read_back_too() -> None:
    row = bytes(range(256)) * 300
    assert from_value_proto(Value(bytes_val=row).SerializeToString()) == row


@pytest.mark.parametrize(
    "value",
    [
        Value(string_val="0123").SerializeToString(),
        Value(int64_val=7).SerializeToString(),
        to_value_proto(b"0123")[:-1],
        to_value_proto(b"0123") + b"4",
        b"\x0a",
        b"\x0a\xff\xff\xff\xff\xff\xff",
    ],
)
def test_what_holds_no_row_is_refused(value: bytes) -> None:
    with pytest.raises(ValueError, match="hold no row"):
        from_value_proto(value)


def test_nothing_is_no_row() -> None:
    assert from_value_proto(Value().SerializeToString()) is None


def test_a_ref_of_other_keys_is_refused() -> None:
    with pytest.raises(ValueError, match="is keyed by"):
        LAYOUT.entity_key(RowRef(CARRIER.name, ("EWR",)))


def test_rows_that_feast_pushed_to_sqlite_are_read_back_byte_for_byte(tmp_path: Path, year: Year) -> None:
    state = FlightsOnline().row_state()
    for step in Timeline(year, seed=7).steps(MONDAY, MONDAY + timedelta(hours=15), questions=False):
        state.apply(step.facts)
    state.apply([messages.Message(messages.LISTED, MONDAY, "N14228", {"seats": 149.0, "built": None})])
    rows = rows_of_each_kind(state.rows())
    assert {ref.view for ref in rows} == {view.name for view in VIEWS}
    push(a_feast_store(tmp_path, {"type": "sqlite", "path": str(tmp_path / "online.db")}), rows)
    reader = SqliteRows(tmp_path / "online.db", LAYOUT, deadline_s=5)

    found = reader.read([*rows, RowRef(AIRCRAFT.name, ("N0NE",))])

    assert found.rows == [*rows.values(), None]
    assert found.progress is None
    reader.close()
