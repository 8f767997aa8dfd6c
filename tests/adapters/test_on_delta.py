"""What only the real tables can show: writers at the same time, versions that stay, a folder that somebody else wrote."""

from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
import pytest

from mlops_lab.data import Column, Pin, TableSchema
from mlops_lab.data.on_delta import DeltaTables
from mlops_lab.errors import NotEnoughData, ProgressMoved, SchemaRefused, StoreUnreachable, UnknownName

NOTES = TableSchema("notes", (Column("writer", "text", nullable=False), Column("number", "integer")))


@pytest.fixture
def tables(tmp_path: Path) -> DeltaTables:
    return opened(tmp_path)


def opened(home: Path) -> DeltaTables:
    tables = DeltaTables(home / "tables")
    tables.declare(NOTES)
    return tables


def rows(writer: str, *numbers: int) -> pd.DataFrame:
    return pd.DataFrame({"writer": [writer] * len(numbers), "number": list(numbers)}).astype({"writer": object, "number": "int64"})


def write(home: Path, writer: str, own_id: bool) -> None:
    tables = opened(home)
    for number in range(1, 6):
        tables.append("notes", rows(writer if own_id else "any", number), app_id=writer if own_id else "shared", app_version=number)


@pytest.mark.parametrize("own_id", [True, False])
def test_processes_that_append_at_the_same_time_lose_and_double_nothing(tmp_path: Path, own_id: bool) -> None:
    """The table is not there yet, so its making is a race too. Under one id all of them together have the effect of one."""
    with ProcessPoolExecutor(3, mp_context=get_context("spawn")) as pool:
        for done in [pool.submit(write, tmp_path, name, own_id) for name in ("a", "b", "c")]:
            done.result(timeout=60)

    found = opened(tmp_path).read("notes")
    wanted = [(name, number) for name in (("a", "b", "c") if own_id else ("any",)) for number in range(1, 6)]
    assert sorted(found.itertuples(index=False, name=None)) == wanted


def test_rows_and_progress_are_one_commit(tables: DeltaTables) -> None:
    assert tables.progress("notes", "w") is None
    first = tables.append("notes", rows("a", 1), "w", 5)
    assert tables.append("notes", rows("a", 2), "w", 5) == first
    assert tables.append("notes", rows("a", 2), "w", 4) == first
    assert tables.append("notes", rows("a"), "w", 9) > first
    assert tables.progress("notes", "w") == 9
    with pytest.raises(ProgressMoved):
        tables.append("notes", rows("a", 3), "w", 10, after=5)
    assert tables.read("notes")["number"].tolist() == [1]


def test_a_version_is_read_as_it_was(tables: DeltaTables) -> None:
    assert tables.version("notes") == 0
    assert tables.read("notes").empty
    first = tables.append("notes", rows("a", 1), "w", 1)
    tables.append("notes", rows("a", 2), "w", 2)

    assert tables.read("notes", version=first)["number"].tolist() == [1]
    with pytest.raises(NotEnoughData, match="no version 9"):
        tables.read("notes", version=9)


def test_what_is_pinned_outlives_the_clean_up(tables: DeltaTables) -> None:
    versions = [tables.append("notes", rows("a", number), "w", number) for number in range(1, 5)]
    for number in (5, 6):
        tables.append("notes", rows("a", number), "w", number)
    tables.tidy("notes", keep=timedelta(0))  # joins the files of versions 1 to 6 and needs the old ones no more
    kept = tables.append("notes", rows("a", 7), "w", 7)
    tables.pin("notes", kept, by="training 1")
    tables.pin("notes", kept, by="training 1")
    tables.append("notes", rows("a", 8), "w", 8)

    assert tables.tidy("notes", keep=timedelta(0)) > 0

    assert tables.pins() == (Pin("notes", kept, "training 1"),)
    assert sorted(tables.read("notes", version=kept)["number"]) == list(range(1, 8))
    assert sorted(tables.read("notes")["number"]) == list(range(1, 9))
    assert tables.progress("notes", "w") == 8
    with pytest.raises(StoreUnreachable):
        tables.read("notes", version=versions[1])
    with pytest.raises(NotEnoughData):
        tables.pin("notes", 99, by="nobody")


def test_names_are_checked_before_anything_is_opened(tables: DeltaTables) -> None:
    with pytest.raises(UnknownName, match="notes"):
        tables.read("nots")
    with pytest.raises(UnknownName, match="number"):
        tables.read("notes", columns=["numbr"])
    with pytest.raises(SchemaRefused, match="declared with other columns"):
        tables.declare(TableSchema("notes", (Column("writer", "text"),)))


def test_a_table_of_an_earlier_release_gets_the_columns_that_came_since(tmp_path: Path, tables: DeltaTables) -> None:
    first = tables.append("notes", rows("a", 1), "w", 1)
    newer = DeltaTables(tmp_path / "tables")
    newer.declare(NOTES.plus(Column("colour", "text")))

    assert newer.read("notes")["colour"].tolist() == [None]
    newer.append("notes", rows("a", 2).assign(colour="red"), "w", 2)

    assert newer.read("notes").sort_values("number")["colour"].tolist() == [None, "red"]
    assert newer.read("notes", version=first, columns=["colour", "number"]).to_dict("records") == [{"colour": None, "number": 1}]
    assert newer.read("notes", filters=[("colour", "=", "red")])["number"].tolist() == [2]
    with pytest.raises(SchemaRefused, match="other columns than its schema"):
        tables.append("notes", rows("a", 3), "w", 3)


@pytest.mark.parametrize("column", [Column("colour", "text", nullable=False), Column("number", "text")])
def test_a_table_that_differs_in_another_way_is_not_written_to(tmp_path: Path, tables: DeltaTables, column: Column) -> None:
    tables.append("notes", rows("a", 1), "w", 1)
    other = DeltaTables(tmp_path / "tables")
    kept = tuple(each for each in NOTES.columns if each.name != column.name)
    other.declare(TableSchema("notes", (*kept, column)))
    with pytest.raises(SchemaRefused, match="other columns than its schema"):
        other.append("notes", rows("a", 2).assign(**{column.name: "red"}), "w", 2)


def test_a_damaged_table_is_said_to_be_so(tmp_path: Path, tables: DeltaTables) -> None:
    tables.append("notes", rows("a", 1), "w", 1)
    for file in (tmp_path / "tables" / "notes").glob("*.parquet"):
        file.write_bytes(b"not parquet")
    with pytest.raises(StoreUnreachable):
        tables.read("notes")
