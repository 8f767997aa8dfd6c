"""Tables and packages on a real S3 server: nobody loses a row, and the loop turns there as it does in a home."""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path

import obstore
import pandas as pd
import pytest

from databases import Schemas
from mlops_lab.bootstrap.followed import LedgerOfServer, followed
from mlops_lab.bootstrap.packages import packages
from mlops_lab.cli.checks import Health, servers
from mlops_lab.data import Column, Pin, TableSchema
from mlops_lab.data.on_delta import DeltaTables
from mlops_lab.errors import StoreUnreachable
from mlops_lab.objects import Place
from mlops_lab.objects.on_s3 import opened, require_conditional_put
from mlops_lab.registry import Role
from mlops_lab.scoring import Package
from mlops_lab.scoring.on_s3 import S3Packages
from mlops_lab.settings import StoreSettings
from parcel_builders import MODEL
from pipeline_builders import established

NOTES = TableSchema("notes", (Column("writer", "text", nullable=False), Column("number", "integer")))
WRITERS, APPENDS = 4, 20


def keys(place: Place) -> list[str]:
    return [found["path"] for page in obstore.list(opened(place)) for found in page]


def rows_of(place: Place) -> list[str]:
    """Keys of the files that hold the rows of the notes."""
    return [key for key in keys(place) if key.startswith("notes/") and "_delta_log" not in key]


def tables_at(place: Place) -> DeltaTables:
    tables = DeltaTables(place.url, place.options())
    tables.declare(NOTES)
    return tables


def append(place: Place, writer: str) -> None:
    tables = tables_at(place)
    for number in range(1, APPENDS + 1):
        rows = pd.DataFrame({"writer": pd.Series([writer], dtype=object), "number": [number]})
        tables.append("notes", rows, app_id=writer, app_version=number)


def test_it_honours_the_condition_and_the_check_leaves_nothing_behind(s3: Place) -> None:
    require_conditional_put(s3)
    assert keys(s3) == []


def test_of_eighty_appends_by_four_processes_all_can_be_read(s3: Place) -> None:
    """The table is not there yet, so its making is a race too."""
    with ProcessPoolExecutor(WRITERS, mp_context=get_context("spawn")) as pool:
        for done in [pool.submit(append, s3, f"writer-{number}") for number in range(WRITERS)]:
            done.result(timeout=120)

    found = tables_at(s3).read("notes")
    assert sorted(found.itertuples(index=False, name=None)) == [
        (f"writer-{writer}", number) for writer in range(WRITERS) for number in range(1, APPENDS + 1)
    ]


def test_what_is_pinned_outlives_the_clean_up_there_too(s3: Place) -> None:
    append(s3, "writer")
    tables = tables_at(s3)
    assert len(rows_of(s3)) == APPENDS
    tables.tidy("notes", keep=timedelta(0))  # joins the files of the versions so far, and needs the old ones no more
    kept = tables.append("notes", pd.DataFrame({"writer": ["late"], "number": [1]}), app_id="late", app_version=1)
    tables.pin("notes", kept, by="training 1")
    tables.append("notes", pd.DataFrame({"writer": ["later"], "number": [1]}), app_id="later", app_version=1)

    tables.tidy("notes", keep=timedelta(0))

    assert len(rows_of(s3)) == 3  # two that the pinned version reads, and one that joins them with what came later
    assert tables_at(s3).pins() == (Pin("notes", kept, "training 1"),)
    assert [len(tables.read("notes", version=version)) for version in (kept, None)] == [APPENDS + 1, APPENDS + 2]
    with pytest.raises(StoreUnreachable):
        tables.read("notes", version=1)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"secret": "not this one"}, "SignatureDoesNotMatch|AccessDenied|lacked the necessary privileges"),
        ({"bucket": "there-is-no-such-bucket"}, "NoSuchBucket"),
        ({"endpoint": "http://127.0.0.1:1"}, "refused|error sending request"),
    ],
)
def test_what_is_wrong_with_a_place_is_said_by_tables_packages_and_the_check(s3: Place, wrong: dict[str, str], why: str) -> None:
    place = replace(s3, timeout_s=2.0, **wrong)  # type: ignore[arg-type]
    with pytest.raises(StoreUnreachable, match=why):
        require_conditional_put(place)
    with pytest.raises(StoreUnreachable, match=why) as said:
        tables_at(place).read("notes")
    assert "<" not in said.value.what  # the server's XML
    with pytest.raises(StoreUnreachable, match=why):
        append(place, "nobody")
    with pytest.raises(StoreUnreachable, match=why):
        S3Packages(place).put(b"scorer", b"manifest", b"signature")


def test_a_package_comes_back_whole(s3: Place) -> None:
    package = Package(bytes(range(256)) * 40_000, b"manifest", b"s" * 64)
    digest = S3Packages(s3).put(*package)
    assert S3Packages(s3).get(digest) == package
    with pytest.raises(StoreUnreachable, match="holds no package"):
        S3Packages(s3).get("0" * 64)


def test_a_model_comes_about_with_nothing_but_keys_and_evidence_in_the_home(
    s3: Place, schemas: Schemas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ingested, trained, judged, approved and promoted with ledger, tables and packages on servers, and found there by a replica."""
    monkeypatch.setattr("mlops_lab.pipelines.train.MIN_ROWS", 500)
    home = tmp_path / "home"
    for name, content in (("key", s3.key_id), ("secret", s3.secret)):
        (tmp_path / name).write_text(content)
    stores = StoreSettings(
        database=schemas.address_of(home),
        tables=f"{s3.url}/tables",
        packages=f"{s3.url}/packages",
        s3_endpoint=s3.endpoint,
        s3_key_file=tmp_path / "key",
        s3_secret_file=tmp_path / "secret",
    )

    lab = established(home, stores)

    assert {"lab.db", "tables", "packages"} & {path.name for path in home.iterdir()} == set()
    again = lab.again()
    assert len(again.snapshots.all()) == 6
    assert again.snapshots.table_version("parcels") >= 6
    assert (again.trail.verify(), list(again.ledger.unaccounted())) == (None, [])
    replica = followed(again.settings, MODEL)
    assert isinstance(replica, LedgerOfServer)
    standing = replica.standing()
    digest = standing.digests[standing.lines[Role.CHAMPION].version or 0]
    assert packages(again.settings).get(digest).manifest
    assert {key.partition("/")[0] for key in keys(s3)} == {"tables", "packages"}
    assert [(check.name, check.health) for check in servers(again.settings, MODEL)] == [("ledger", Health.OK), ("tables", Health.OK)]
    gone = again.settings.model_copy(
        update={"stores": stores.model_copy(update={"s3_endpoint": "http://127.0.0.1:1", "s3_timeout_s": 1.0})}
    )
    assert [check.health for check in servers(gone, MODEL)] == [Health.OK, Health.FAIL]
    replica.close()
    for each in (lab, again):
        each.ledger.close()  # type: ignore[attr-defined]
