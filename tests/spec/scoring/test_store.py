"""Where packages lie: under the digest of their scorer, whole or not at all."""

from pathlib import Path

import pytest

from mlops_lab.errors import StoreUnreachable
from mlops_lab.scoring import DirectoryStore, sha256
from model_builders import a_forest


def test_the_store_gives_back_what_was_put_and_knows_no_other_address(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "packages")
    scorer = a_forest().to_bytes()

    digest = store.put(scorer, b"manifest", b"signature")

    assert digest == sha256(scorer)
    assert tuple(store.get(digest)) == (scorer, b"manifest", b"signature")
    for address in ("0" * 64, "../../etc/passwd", digest.upper(), ""):
        with pytest.raises(StoreUnreachable):
            store.get(address)


def test_putting_again_changes_nothing_and_a_new_signature_replaces_the_old(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    digest = store.put(b"scorer", b"manifest", b"old")
    folder = (tmp_path / digest).stat().st_ino

    assert store.put(b"scorer", b"manifest", b"old") == digest
    assert (tmp_path / digest).stat().st_ino == folder
    assert store.put(b"scorer", b"manifest", b"new") == digest
    assert store.get(digest).signature == b"new"
    assert [path.name for path in tmp_path.iterdir()] == [digest], "nothing is left aside"


def test_a_damaged_package_is_repaired_by_publishing_again(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    digest = store.put(b"scorer", b"manifest", b"signature")
    (tmp_path / digest / "manifest.json").unlink()

    with pytest.raises(StoreUnreachable):
        store.get(digest)
    store.put(b"scorer", b"manifest", b"signature")

    assert store.get(digest).manifest == b"manifest"


def test_a_disk_that_does_not_take_it_is_said_with_the_place(tmp_path: Path) -> None:
    (tmp_path / "packages").write_text("a file where the folder should be")

    with pytest.raises(StoreUnreachable, match="packages"):
        DirectoryStore(tmp_path / "packages").put(b"scorer", b"manifest", b"signature")
