"""A batch is in the history whole or not at all, once, and only with a verdict about this very content."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mlops_lab.data import Batch, Column, Snapshot, Snapshots, TableSchema
from mlops_lab.data.in_memory import MemoryBook
from mlops_lab.data.on_delta import DeltaTables
from mlops_lab.errors import BatchConflict, NotEnoughData, SchemaRefused, SnapshotRefused, StoreUnreachable

JAN, FEB, MAR = (datetime(2013, month, 1, tzinfo=UTC) for month in (1, 2, 3))
ORDERS = TableSchema("orders", (Column("order", "text", nullable=False), Column("price", "number")))
CITIES = TableSchema("cities", (Column("city", "text"), Column("people", "integer")))


@dataclass(frozen=True)
class Said:
    """As much of a verdict as acceptance looks at."""

    accepted: bool
    digest: str


@pytest.fixture
def tables(tmp_path: Path) -> DeltaTables:
    return DeltaTables(tmp_path / "tables")


@pytest.fixture
def book() -> MemoryBook:
    return MemoryBook()


@pytest.fixture
def history(tables: DeltaTables, book: MemoryBook) -> Snapshots:
    return Snapshots(tables, book, (ORDERS, CITIES))


def a_batch(name: str = "2013-01", letters: str = "abc", **different: Any) -> Batch:
    tables = {
        "orders": pd.DataFrame({"order": list(letters), "price": [float(ord(letter)) for letter in letters]}),
        "cities": pd.DataFrame({"city": ["Ulm"], "people": [len(letters)]}),
    }
    return Batch(name, JAN, FEB, tables | different)


def accept(history: Snapshots, batch: Batch, at: datetime = FEB) -> Snapshot:
    return history.accept(batch, Said(True, batch.digest), at)


def orders_in(history: Snapshots, as_of: Snapshot | None = None) -> list[str]:
    return sorted(history.read("orders", as_of)["order"])


def test_an_accepted_batch_is_read_back_whole(history: Snapshots) -> None:
    snapshot = accept(history, a_batch())

    assert orders_in(history) == ["a", "b", "c"]
    assert list(history.read("orders").columns) == ["order", "price"]
    assert history.read("cities")["people"].tolist() == [3]
    assert snapshot.rows == {"orders": 3, "cities": 1}
    assert (history.latest(), history.latest(before=FEB), history.all()) == (snapshot, snapshot, (snapshot,))


def test_a_snapshot_survives_a_record(history: Snapshots) -> None:
    snapshot = accept(history, a_batch())
    assert Snapshot.from_dict(snapshot.to_dict()) == snapshot


def test_the_same_content_again_changes_nothing(history: Snapshots, tables: DeltaTables) -> None:
    """Not even in another order of rows, or under another name."""
    first = accept(history, a_batch())
    version = tables.version("orders")
    shuffled = a_batch(orders=pd.DataFrame({"price": [99.0, 98.0, 97.0], "order": ["c", "b", "a"]}))

    assert shuffled.digest == a_batch().digest
    assert accept(history, shuffled, at=MAR) == first
    assert accept(history, a_batch(name="again")) == first
    assert tables.version("orders") == version
    assert len(history.read("orders")) == 3


def test_other_content_under_an_accepted_name_is_a_conflict(history: Snapshots) -> None:
    accept(history, a_batch())
    with pytest.raises(BatchConflict, match="was accepted with content"):
        accept(history, a_batch(orders=pd.DataFrame({"order": ["z"], "price": [1.0]})))
    assert orders_in(history) == ["a", "b", "c"]


def test_no_batch_comes_in_on_a_refusal_or_on_a_verdict_about_something_else(history: Snapshots) -> None:
    batch = a_batch()
    for said in (Said(False, batch.digest), Said(True, a_batch(orders=pd.DataFrame()).digest)):
        with pytest.raises(SnapshotRefused):
            history.accept(batch, said, FEB)
    with pytest.raises(NotEnoughData):
        history.latest()
    assert history.read("orders").empty


class Dying(DeltaTables):
    """Dies at the n-th append, as a killed process would: what was appended before stays."""

    appends = 0
    dies_at = 0

    def append(self, *arguments: Any, **named: Any) -> int:
        self.appends += 1
        if self.appends == self.dies_at:
            raise KeyboardInterrupt
        return super().append(*arguments, **named)


class DyingBook(MemoryBook):
    def record(self, snapshot: Snapshot) -> Snapshot:
        raise KeyboardInterrupt


@pytest.mark.parametrize("dies_at", [1, 2, 3])
def test_a_crash_between_two_tables_leaves_nothing_to_see_and_sending_again_completes_it(
    tmp_path: Path, book: MemoryBook, dies_at: int
) -> None:
    tables = Dying(tmp_path / "tables")
    earlier = Snapshots(tables, book, (ORDERS, CITIES))
    accept(earlier, a_batch("2013-01", "abc"))
    tables.appends, tables.dies_at = 0, dies_at
    dying = Snapshots(tables, DyingBook() if dies_at == 3 else book, (ORDERS, CITIES))

    with pytest.raises(KeyboardInterrupt):
        accept(dying, a_batch("2013-02", "defg"))

    again = Snapshots(DeltaTables(tmp_path / "tables"), book, (ORDERS, CITIES))
    assert orders_in(again) == ["a", "b", "c"]
    assert again.read("cities")["people"].tolist() == [3]
    accept(again, a_batch("2013-03", "x"))  # another batch may come in between
    accept(again, a_batch("2013-02", "defg"))
    assert orders_in(again) == list("abcdefgx")
    assert sorted(again.read("cities")["people"]) == [1, 3, 4]


def test_a_batch_that_does_not_fit_its_table_counts_in_none(history: Snapshots) -> None:
    with pytest.raises(SchemaRefused, match="unknown"):
        accept(history, a_batch(orders=pd.DataFrame({"order": ["a"], "price": [1.0], "colour": ["red"]})))
    with pytest.raises(SchemaRefused, match="price"):
        accept(history, a_batch(orders=pd.DataFrame({"order": ["a"], "price": ["dear"]})))
    assert history.read("cities").empty


def test_the_history_as_of_a_snapshot_never_changes(history: Snapshots) -> None:
    first = accept(history, a_batch("2013-01", "abc"))
    second = accept(history, a_batch("2013-02", "de"), at=MAR)

    assert orders_in(history, first) == ["a", "b", "c"]
    assert orders_in(history, second) == orders_in(history) == list("abcde")
    assert history.latest(before=FEB) == first
    assert history.table_version("orders", first) < history.table_version("orders", second)
    stranger = Snapshot("0" * 12, "x", "0" * 64, {}, {}, JAN, FEB, FEB)
    with pytest.raises(NotEnoughData, match="not among the accepted"):
        history.read("orders", stranger)


def test_rows_can_be_filtered_and_columns_chosen(history: Snapshots) -> None:
    accept(history, a_batch())
    found = history.read("orders", filters=[("price", ">", 97.0), ("order", "in", ["a", "b"])], columns=["order"])
    assert found.to_dict("list") == {"order": ["b"]}


@pytest.fixture
def unwritable(tmp_path: Path) -> DeltaTables:
    (tmp_path / "tables").write_text("a file where the folder should be")
    return DeltaTables(tmp_path / "tables")


def test_a_store_that_cannot_be_written_says_so(unwritable: DeltaTables, book: MemoryBook) -> None:
    with pytest.raises(StoreUnreachable):
        accept(Snapshots(unwritable, book, (ORDERS, CITIES)), a_batch())
    assert book.all() == ()
