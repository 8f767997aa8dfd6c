"""The online rows as they lie in the store: all of them, straight from its tables or keys, not by the platform's reader."""

import sqlite3
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from mlops_lab.features.feast_layout import Layout, from_value_proto
from mlops_lab.features.on_redis_connection import Connection
from mlops_lab.features.rows import RowRef
from mlops_lab.flights.rows import VIEWS

_LAYOUT = Layout(VIEWS)
_FIELDS = {_LAYOUT.redis_field(view.name): view.name for view in VIEWS}
_READS_S = 30.0
_AT_ONCE = 500


class Kept(NamedTuple):
    """What lies in a store: rows of what may be there, and how many other ones."""

    rows: dict[RowRef, bytes]
    strangers: int


NOTHING = Kept({}, 0)


def in_sqlite(file: Path, possible: Iterable[RowRef]) -> Kept:
    """All rows of an SQLite store; none where there is no file, or no table yet."""
    if not file.is_file():
        return NOTHING
    refs = {(ref.view, _LAYOUT.entity_key(ref)): ref for ref in possible}
    rows: dict[RowRef, bytes] = {}
    strangers = 0
    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=_READS_S)) as db:
        db.execute("BEGIN")
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        for view in VIEWS:
            table = _LAYOUT.sqlite_table(view.name)
            if table.strip('"') not in tables:
                continue
            for key, value in db.execute(f"SELECT entity_key, value FROM {table}"):
                ref, row = refs.get((view.name, bytes(key))), from_value_proto(value)
                if ref is None or row is None or ref in rows:
                    strangers += 1
                else:
                    rows[ref] = row
    return Kept(rows, strangers)


def in_redis(connection: Connection, possible: Iterable[RowRef]) -> Kept:
    """All rows of a Redis database. Raises FeatureStoreUnreachable."""
    refs = {(_LAYOUT.redis_key(ref), ref.view): ref for ref in possible}
    until = time.monotonic() + _READS_S
    keys = connection.one(("KEYS", "*" + _LAYOUT.project), until)
    assert isinstance(keys, list)
    rows: dict[RowRef, bytes] = {}
    strangers = 0
    for start in range(0, len(keys), _AT_ONCE):
        mine = keys[start : start + _AT_ONCE]
        commands = b"".join(b"*2\r\n$7\r\nHGETALL\r\n$%d\r\n%b\r\n" % (len(key), key) for key in mine)
        for key, found in zip(mine, connection.many(commands, len(mine), until), strict=True):
            assert isinstance(found, list)
            for field, value in zip(found[::2], found[1::2], strict=True):
                if field not in _FIELDS:
                    continue  # Feast's own: when a view was written
                ref, row = refs.get((key, _FIELDS[field])), from_value_proto(value)
                if ref is None or row is None:
                    strangers += 1
                else:
                    rows[ref] = row
    return Kept(rows, strangers)
