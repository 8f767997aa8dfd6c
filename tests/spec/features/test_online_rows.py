"""Readers of the online table: what was written comes back, in one round trip, with how far the stream is in; or they say why not."""

import sqlite3
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from mlops_lab.errors import FeatureStoreUnreachable
from mlops_lab.features import progress
from mlops_lab.features.feast_layout import Layout, to_value_proto
from mlops_lab.features.on_sqlite import SqliteProgress, SqliteRows
from mlops_lab.features.rows import Progress, RowRef, RowView, components_of

PLACES = RowView("places", ("place",), "", None)
PAIRS = RowView("pairs", ("place", "carrier"), "", None)
LAYOUT = Layout((PLACES, PAIRS))
SAID = Progress({"observations": (3, 0, 7), "references": (1,)}, 1_365_000_000, 1_700_000_000.25, "e1")
ROWS = {
    RowRef("places", ("EWR",)): b"one",
    RowRef("places", ("JFK",)): b"",
    RowRef("pairs", ("EWR", "UA")): bytes(range(256)) * 3,
}


def tables(path: Path, rows: Mapping[RowRef, bytes]) -> None:
    """A file as Feast makes it, and its rows."""
    with sqlite3.connect(path) as db:
        for view in (PLACES, PAIRS):
            columns = "entity_key BLOB, feature_name TEXT, value BLOB, value_text TEXT, event_ts timestamp, created_ts timestamp"
            db.execute(f"CREATE TABLE IF NOT EXISTS mlops_lab_{view.name} ({columns}, PRIMARY KEY (entity_key, feature_name))")
        for ref, row in rows.items():
            table = LAYOUT.sqlite_table(ref.view)
            db.execute(
                f"INSERT OR REPLACE INTO {table} VALUES (?, ?, ?, NULL, 0, 0)",
                (LAYOUT.entity_key(ref), components_of(ref.view), to_value_proto(row)),
            )
    db.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "online.db"
    book = SqliteProgress(path)
    book.write(SAID)
    book.close()
    tables(path, ROWS)
    return path


@pytest.fixture
def reader(path: Path) -> Iterator[SqliteRows]:
    reader = SqliteRows(path, LAYOUT, deadline_s=2)
    yield reader
    reader.close()


def until_read(reader: SqliteRows, patience_s: float = 10) -> None:
    """Ask until it answers."""
    until = time.monotonic() + patience_s
    while True:
        try:
            reader.read(())
            return
        except FeatureStoreUnreachable:
            assert time.monotonic() < until
            time.sleep(0.02)


def test_progress_is_read_back_as_it_was_written() -> None:
    assert progress.from_json(progress.to_json(SAID)) == SAID


@pytest.mark.parametrize("content", [None, b"", b"[]", b"{}", b'{"offsets":7}', b"\xff", b'{"offsets":{},"watermark_s":"x"}'])
def test_what_nobody_of_ours_wrote_is_no_progress(content: bytes | None) -> None:
    assert progress.from_json(content) is None


def test_rows_come_in_the_order_asked_for_with_the_progress(reader: SqliteRows) -> None:
    nobody = RowRef("pairs", ("EWR", "AA"))

    found = reader.read([*reversed(ROWS), nobody, next(iter(ROWS))])

    assert found.rows == [*reversed(ROWS.values()), None, b"one"]
    assert found.progress == SAID
    assert found.unusable == 0


def test_what_is_no_row_is_left_out_and_counted(path: Path, reader: SqliteRows) -> None:
    with sqlite3.connect(path) as db:
        db.execute(
            "UPDATE mlops_lab_places SET value = x'1203616263' WHERE entity_key = ?", (LAYOUT.entity_key(RowRef("places", ("EWR",))),)
        )
    db.close()

    found = reader.read(list(ROWS))

    assert found.rows == [None, *list(ROWS.values())[1:]]
    assert found.unusable == 1


def test_a_new_row_and_a_new_progress_are_seen_at_once(path: Path, reader: SqliteRows) -> None:
    reader.read(list(ROWS))
    ref = RowRef("places", ("LGA",))
    tables(path, {ref: b"new"})
    later = SAID._replace(watermark_s=SAID.watermark_s + 60)
    book = SqliteProgress(path)
    book.write(later)
    assert book.read() == later
    book.close()

    found = reader.read([ref])

    assert (found.rows, found.progress) == ([b"new"], later)


def test_a_file_that_is_not_there_is_unreachable_and_not_made(tmp_path: Path) -> None:
    path = tmp_path / "online.db"
    reader = SqliteRows(path, LAYOUT, deadline_s=2)

    with pytest.raises(FeatureStoreUnreachable) as raised:
        reader.read([RowRef("places", ("EWR",))])

    assert raised.value.reason == "refused"
    assert not path.exists()
    book = SqliteProgress(path)
    book.write(SAID)
    book.close()
    tables(path, ROWS)
    until_read(reader)
    assert reader.read(list(ROWS)).rows == list(ROWS.values())
    reader.close()


def test_a_file_that_another_process_holds_is_read_when_it_lets_go(path: Path) -> None:
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("PRAGMA locking_mode=EXCLUSIVE")
    holder.execute("BEGIN IMMEDIATE")
    holder.execute("DELETE FROM lab_progress")
    reader = SqliteRows(path, LAYOUT, deadline_s=2)
    with pytest.raises(FeatureStoreUnreachable, match="locked"):
        reader.read(())
    holder.execute("ROLLBACK")
    holder.close()

    until_read(reader)

    assert reader.progress() == SAID
    reader.close()


def test_another_file_in_its_place_is_read(path: Path, reader: SqliteRows, tmp_path: Path) -> None:
    reader.read(())
    other = tmp_path / "other.db"
    book = SqliteProgress(other)
    book.write(SAID._replace(epoch="e2"))
    book.close()
    other.replace(path)
    for beside in (f"{path}-wal", f"{path}-shm"):
        Path(beside).unlink(missing_ok=True)

    until_read(reader)

    found = reader.progress()
    assert found is not None
    assert found.epoch == "e2"


def test_progress_in_a_file_that_was_removed_is_none_and_is_written_into_a_new_one(path: Path) -> None:
    """Who wrote to the former file must not go on believing what stands in it, nor write where nobody reads."""
    book = SqliteProgress(path)
    assert book.read() == SAID
    for each in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        each.unlink(missing_ok=True)

    assert book.read() is None
    book.write(SAID)
    book.close()

    reader = SqliteRows(path, LAYOUT, deadline_s=2)
    assert reader.progress() == SAID
    reader.close()
