"""Packages on a replica's own disk: downloaded once, checked at each use, the last few kept."""

import os
from pathlib import Path

import pytest

from follower_builders import signed_by_a_stranger, tried
from mlops_lab.errors import ScorerRefused, StoreUnreachable
from mlops_lab.registry.version import Role
from mlops_lab.scoring.manifest import sha256
from mlops_lab.serving.cache import PackageCache
from serving_builders import KEY, MODEL, Store, a_package, a_replica


def test_trials_do_not_push_the_way_back_out_of_the_cache(tmp_path: Path) -> None:
    replica = a_replica(tmp_path, 0.1)
    digests = [replica.books.digests[1]]
    replica.follow()
    for version in range(2, 5):
        digests.append(replica.store.put(a_package(version / 10)))
        replica.books.promote(version, digests[-1])
        replica.follow()
    for version in range(5, 9):
        tried(replica, version, Role.CANARY, 0.1, p=0.5 + version / 100)
        tried(replica, version + 10, Role.SHADOW, 0.1, p=0.7 + version / 100)
        replica.follow()
    here = {path.name for path in (tmp_path / "serving/cache").iterdir()}
    assert set(digests[1:]) <= here  # the champion and the two before it
    assert len(here) <= 8


class TestCache:
    def cache(self, directory: Path, store: Store) -> PackageCache:
        return PackageCache(directory, store, [KEY.public_key()])

    def test_a_package_is_downloaded_once(self, tmp_path: Path) -> None:
        store = Store()
        digest = store.put(a_package(0.1))
        for _ in range(3):
            assert sha256(self.cache(tmp_path, store).scorer(digest, MODEL)) == digest
        assert store.asked == 1

    def test_the_last_three_used_stay(self, tmp_path: Path) -> None:
        store = Store()
        digests = [store.put(a_package(n / 10)) for n in range(5)]
        cache = self.cache(tmp_path, store)
        for n, digest in enumerate(digests[:4]):
            cache.scorer(digest, MODEL)
            os.utime(tmp_path / digest, (n, n))
        cache.scorer(digests[1], MODEL)
        cache.scorer(digests[4], MODEL)

        assert set(cache.holds()) == {digests[1], digests[3], digests[4]}

    @pytest.mark.parametrize("file", ["scorer.json", "manifest.json", "signature"])
    @pytest.mark.parametrize("harm", ["changed", "emptied", "removed"])
    def test_a_cached_package_that_was_tampered_with_is_downloaded_anew(self, tmp_path: Path, file: str, harm: str) -> None:
        store = Store()
        digest = store.put(a_package(0.1))
        cache = self.cache(tmp_path, store)
        cache.scorer(digest, MODEL)
        path = tmp_path / digest / file
        if harm == "removed":
            path.unlink()
        else:
            path.write_bytes(b"" if harm == "emptied" else path.read_bytes()[:-1] + b"!")

        assert sha256(cache.scorer(digest, MODEL)) == digest
        store.down = True
        assert sha256(cache.scorer(digest, MODEL)) == digest

    def test_nothing_half_or_refused_is_left_in_the_cache(self, tmp_path: Path) -> None:
        store = Store()
        digest = store.put(signed_by_a_stranger())
        cache = self.cache(tmp_path / "cache", store)

        with pytest.raises(ScorerRefused):
            cache.scorer(digest, MODEL)
        store.down = True
        with pytest.raises(StoreUnreachable):
            cache.scorer("0" * 64, MODEL)
        assert cache.holds() == []

    @pytest.mark.parametrize("digest", ["", "../../etc", "A" * 64, "0" * 63, "0" * 64 + "\n"])
    def test_a_digest_is_not_a_path(self, tmp_path: Path, digest: str) -> None:
        with pytest.raises(ScorerRefused, match="not a digest"):
            self.cache(tmp_path, Store()).scorer(digest, MODEL)

    def test_a_disk_that_takes_nothing_does_not_keep_a_model_from_answering(self, tmp_path: Path) -> None:
        (tmp_path / "cache").write_text("a file in the way")
        store = Store()
        digest = store.put(a_package(0.1))

        assert sha256(self.cache(tmp_path / "cache", store).scorer(digest, MODEL)) == digest
