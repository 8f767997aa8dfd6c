"""A replica follows the ledger, trusts nothing it downloads, and goes on with what it has when all else is down."""

import os
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mlops_lab.errors import ScorerRefused, StoreUnreachable
from mlops_lab.scoring.manifest import Manifest, sha256, sign
from mlops_lab.serving.cache import PackageCache
from serving_builders import KEY, MODEL, Replica, Store, a_package, a_replica


def probability(replica: Replica) -> float | None:
    loaded = replica.parts.slot.current
    return None if loaded is None else loaded.scorer.score_one((None, None, None))


def test_what_the_ledger_names_is_put_in_place(tmp_path: Path) -> None:
    replica = a_replica(tmp_path, None)
    replica.follow()
    assert probability(replica) is None

    for version, p in ((1, 0.2), (2, 0.4)):
        replica.books.promote(version, replica.store.put(a_package(p)))
        replica.follow()
        assert probability(replica) == p
        assert replica.parts.slot.require().champion.version == version
    assert replica.parts.follower.trouble is None


def test_the_thread_follows_within_moments(tmp_path: Path) -> None:
    replica = a_replica(tmp_path)
    replica.parts.follower.start()
    try:
        assert probability(replica) == 0.3
        replica.books.promote(2, replica.store.put(a_package(0.6)))
        deadline = time.monotonic() + 5
        while probability(replica) != 0.6 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert probability(replica) == 0.6
    finally:
        replica.parts.follower.stop()


def test_a_model_stays_while_the_ledger_is_down_or_forgets(tmp_path: Path) -> None:
    replica = a_replica(tmp_path)
    replica.follow()

    replica.books.down = True
    replica.follow()
    assert (probability(replica), bool(replica.parts.follower.trouble)) == (0.3, True)

    replica.books.down, replica.books.lines = False, []
    replica.follow()
    assert (probability(replica), bool(replica.parts.follower.trouble)) == (0.3, True)


def test_a_line_that_takes_the_role_away_is_obeyed_also_after_a_restart(tmp_path: Path) -> None:
    replica = a_replica(tmp_path)
    replica.follow()
    replica.books.promote(None)
    replica.follow()
    assert probability(replica) is None

    replica = replica.again()
    replica.books.down = True
    replica.parts.follower.start_from_cache()
    assert probability(replica) is None


def test_a_start_needs_neither_ledger_nor_store(tmp_path: Path) -> None:
    replica = a_replica(tmp_path)
    replica.follow()

    replica = replica.again()
    replica.books.down = replica.store.down = True
    replica.parts.follower.start()
    replica.parts.follower.stop()

    assert probability(replica) == 0.3
    assert replica.parts.follower.trouble
    assert replica.parts.follower.known_at is not None


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"model": 3}', "{"])
def test_an_unusable_state_file_does_not_stop_a_start(tmp_path: Path, content: str) -> None:
    replica = a_replica(tmp_path)
    (tmp_path / "serving/state.json").write_text(content)

    replica.parts.follower.start_from_cache()
    assert probability(replica) is None
    replica.follow()
    assert probability(replica) == 0.3


def test_a_store_that_is_down_is_asked_again_and_the_old_model_answers_meanwhile(tmp_path: Path) -> None:
    replica = a_replica(tmp_path)
    replica.follow()
    replica.books.promote(2, replica.store.put(a_package(0.9)))
    replica.store.down = True
    replica.follow()
    assert probability(replica) == 0.3
    assert "Version 2 could not be put in place" in (replica.parts.follower.trouble or "")

    replica.store.down = False
    time.sleep(0.05)  # longer than the first pause, which is one poll
    replica.follow()
    assert (probability(replica), replica.parts.follower.trouble) == (0.9, None)


def _tampered_scorer() -> tuple[bytes, bytes, bytes]:
    scorer, manifest, signature = a_package(0.9)
    return scorer.replace(b"0.9", b"0.8"), manifest, signature


def _signed_by_a_stranger() -> tuple[bytes, bytes, bytes]:
    return a_package(0.9, key=Ed25519PrivateKey.generate())


def _of_another_model() -> tuple[bytes, bytes, bytes]:
    scorer, _, _ = a_package(0.9)
    manifest = Manifest("somebody-else's", sha256(scorer), "d" * 64, "e" * 64)
    return scorer, manifest.to_bytes(), sign(manifest, KEY)


def _well_signed_nonsense() -> tuple[bytes, bytes, bytes]:
    return a_package(float("nan"))


def _wants_an_unknown_feature() -> tuple[bytes, bytes, bytes]:
    return a_package(0.9, features=("hour", "price"))


@pytest.mark.parametrize(
    "package", [_tampered_scorer, _signed_by_a_stranger, _of_another_model, _well_signed_nonsense, _wants_an_unknown_feature]
)
def test_a_package_that_fails_a_check_never_answers(tmp_path: Path, package: object) -> None:
    replica = a_replica(tmp_path)
    replica.follow()
    bad = package()  # type: ignore[operator]
    digest = Manifest.from_bytes(bad[1]).scorer_sha256
    replica.store.packages[digest] = bad
    replica.books.promote(2, digest)

    replica.follow()

    assert probability(replica) == 0.3
    assert "Version 2 could not be put in place" in (replica.parts.follower.trouble or "")


def test_a_refused_package_is_not_downloaded_twice_a_second(tmp_path: Path) -> None:
    replica = a_replica(tmp_path)
    replica.follow()
    bad = _signed_by_a_stranger()
    replica.books.promote(2, replica.store.put(bad))
    asked = replica.store.asked

    for _ in range(30):
        replica.follow()

    assert replica.store.asked - asked <= 2


def test_the_same_scorer_under_a_new_line_is_not_loaded_again(tmp_path: Path) -> None:
    replica = a_replica(tmp_path)
    replica.follow()
    scorer = replica.parts.slot.require().champion.scorer
    replica.books.promote(1)
    replica.follow()

    assert replica.parts.slot.require().champion.scorer is scorer
    assert replica.parts.slot.require().champion.assignment == 2


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
        digest = store.put(_signed_by_a_stranger())
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
