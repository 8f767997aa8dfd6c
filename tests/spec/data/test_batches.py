"""How a batch arrives as files, and where it waits when it was refused."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from mlops_lab.data import Batch, Column, Quarantine, TableSchema
from mlops_lab.data.batch_files import files_digest, read_batch, write_batch
from mlops_lab.errors import BatchUnreadable, SchemaRefused, StoreUnreachable, UnknownName

JAN, FEB = datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 2, 1, tzinfo=UTC)
ORDERS = TableSchema(
    "orders",
    (
        Column("order", "text", nullable=False),
        Column("price", "number"),
        Column("pieces", "integer"),
        Column("paid", "flag"),
        Column("sent", "moment"),
    ),
)
CITIES = TableSchema("cities", (Column("city", "text"),))


def a_frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "order": ["NA", "null", 'say "x", y'],
            "price": [0.1, None, 1 / 3],
            "pieces": [1, 2, 3],
            "paid": [True, False, None],
            "sent": pd.to_datetime(["2013-01-02T03:04:05.678901Z", None, "2013-01-03T00:00:00Z"], format="ISO8601").astype(
                "datetime64[us, UTC]"
            ),
        }
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_batch(Batch("2013-01", JAN, FEB, {"orders": a_frame(), "cities": pd.DataFrame({"city": ["Ulm"]})}), tmp_path / "in")
    return tmp_path / "in"


def read(folder: Path, **different: object) -> Batch:
    return read_batch(folder, (ORDERS, CITIES), "2013-01", JAN, FEB, **different)  # type: ignore[arg-type]


def test_what_was_written_is_read_with_its_types_and_its_digest(folder: Path) -> None:
    batch = read(folder)

    assert batch.digest == Batch("x", JAN, FEB, {"orders": a_frame(), "cities": pd.DataFrame({"city": ["Ulm"]})}).digest
    assert ORDERS.rows(batch.tables["orders"]).num_rows == 3
    assert batch.rows == {"orders": 3, "cities": 1}


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("orders.csv", b"", "is empty"),
        ("orders.csv", b"order,price\n", "has a header and no rows"),
        ("orders.csv", b"order,price\na,1\nb,2,3,4\n", "not readable as CSV"),
        ("orders.csv", b"order\n\xff\xfe\x00\n", "not readable as CSV"),
        ("orders.csv", None, "lacks orders.csv"),
        ("extra.csv", b"a\n1\n", "holds the unexpected extra.csv"),
        ("orders.parquet", b"PAR1", "holds the unexpected orders.parquet"),
    ],
)
def test_a_batch_that_cannot_be_read_says_what_is_wrong_with_which_file(folder: Path, file: str, content: bytes | None, said: str) -> None:
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content)
    with pytest.raises(BatchUnreadable, match=said):
        read(folder)


def test_a_missing_folder_and_an_optional_table(folder: Path) -> None:
    with pytest.raises(BatchUnreadable, match="no folder"):
        read(folder / "elsewhere")
    (folder / "cities.csv").unlink()
    (folder / ".DS_Store").write_text("")
    assert set(read(folder, optional=["cities"]).tables) == {"orders"}


def test_a_value_of_another_type_leaves_the_column_as_it_came_for_the_gate_to_see(folder: Path) -> None:
    (folder / "orders.csv").write_text("order,price,pieces,paid,sent,colour\na,1.5,1.5,maybe,soon,red\nb,cheap,2,true,2013-01-01,blue\n")

    orders = read(folder).tables["orders"]

    assert orders["price"].tolist() == ["1.5", "cheap"]
    assert orders["paid"].tolist() == ["maybe", "true"]
    assert orders["sent"].tolist() == ["soon", "2013-01-01"]
    assert orders["pieces"].dtype == "float64"
    assert "colour" in orders
    with pytest.raises(SchemaRefused):
        ORDERS.rows(orders)


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("order", ["a", None, "c"], "has 1 gaps"),
        ("price", ["1", "2", "3"], "not of type number"),
        ("pieces", [1.5, 2, 3], "not of type integer"),
        ("paid", ["yes", "no", "no"], "not of type flag"),
        ("sent", pd.to_datetime(["2013-01-01"] * 3), "must be aware"),
        ("order", [1, 2, 3], "not of type text"),
    ],
)
def test_a_table_refuses_what_does_not_fit_and_names_the_column(column: str, values: object, said: str) -> None:
    with pytest.raises(SchemaRefused, match=said) as refused:
        ORDERS.rows(a_frame().assign(**{column: values}))
    assert f"'{column}'" in refused.value.what


def test_a_table_refuses_strangers_missing_columns_and_twins() -> None:
    with pytest.raises(SchemaRefused, match="unknown"):
        ORDERS.rows(a_frame().assign(colour="red"))
    with pytest.raises(SchemaRefused, match="lacks"):
        ORDERS.rows(a_frame().drop(columns="sent"))
    with pytest.raises(SchemaRefused, match="twice"):
        ORDERS.plus(Column("price", "number"))


def test_a_refused_batch_keeps_its_files_its_verdict_and_its_page(tmp_path: Path, folder: Path) -> None:
    quarantine = Quarantine(tmp_path / "quarantine")
    digest = files_digest(folder)

    kept = quarantine.put("2013-01", digest, {"accepted": False}, "<html>why</html>", FEB, raw=folder)

    assert kept == quarantine.get("2013-01") == quarantine.all()[0]
    assert files_digest(kept.raw) == digest
    assert kept.report.read_text() == "<html>why</html>"
    assert json.loads((kept.folder / "verdict.json").read_text())["verdict"] == {"accepted": False}
    assert quarantine.put("2013-01", digest, {"accepted": False, "again": 1}, "other", FEB) == kept
    assert len(quarantine.all()) == 1


def test_the_last_refusal_of_a_batch_is_the_one_that_is_shown(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path / "quarantine")
    quarantine.put("2013-01", "f" * 64, {"n": 1}, "", JAN)
    quarantine.put("2013-01", "0" * 64, {"n": 2}, "", FEB)
    quarantine.put("2013-02", "1" * 64, {"n": 3}, "", FEB)

    assert quarantine.get("2013-01").verdict == {"n": 2}
    assert len(quarantine.all()) == 3
    with pytest.raises(UnknownName, match="2013-03"):
        quarantine.get("2013-03")


def test_a_refusal_is_whole_or_not_there(tmp_path: Path) -> None:
    """The raw files cannot be copied: no folder with half a refusal, and no draft, is left."""
    quarantine = Quarantine(tmp_path / "quarantine")
    with pytest.raises(StoreUnreachable):
        quarantine.put("2013-01", "f" * 64, {}, "", JAN, raw=tmp_path / "gone")
    assert quarantine.all() == ()
    assert [path for path in (tmp_path / "quarantine").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("name", ["", "../../etc", "a/b", ".hidden", "a b"])
def test_a_name_that_leaves_its_place_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnknownName):
        Quarantine(tmp_path / "quarantine").put(name, "f" * 64, {}, "", JAN)
    assert not (tmp_path / "quarantine").exists()
