"""No partial or foreign package is loaded, whatever lies in store or cache."""

import os
import resource
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import serving_builders
from hostile_packages import CASES, HARMS, STRANGER, World, harmed, put, signed
from mlops_lab.errors import ScorerRefused, StoreUnreachable
from mlops_lab.scoring import DirectoryStore, InTime, Package, files, sha256
from mlops_lab.serving.cache import PackageCache
from package_builders import is_down
from serving_builders import KEY, MODEL, a_package, a_replica

OTHER = Package(*a_package(0.77))
WORLD = World(KEY, OTHER, "somebody-else's")


def rss_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def test_of_250_harmed_packages_in_the_store_none_is_parsed_and_the_old_model_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the 500 seeded cases, 23 kinds of harm. Each is refused within a second, and no memory is filled."""
    parsed: list[str] = []
    loads = serving_builders.load
    monkeypatch.setattr(serving_builders, "load", lambda content: (parsed.append(sha256(content)), loads(content))[1])
    packages = DirectoryStore(tmp_path / "packages")
    replica = a_replica(tmp_path)
    replica.follow()
    monkeypatch.setattr(replica.store, "get", InTime(packages, 10.0).get)
    parsed.clear()
    before, slow = rss_mib(), {}
    for seed in range(CASES // 2):
        good = Package(*a_package(0.5 + seed / 1000))
        folder = packages.path / sha256(good.scorer)
        put(folder, good)
        name = harmed(folder, seed, WORLD)
        replica.books.promote(2 + seed, folder.name)
        began = time.monotonic()
        replica.follow()
        if (took := time.monotonic() - began) > 1:
            slow[seed] = took
        assert parsed == [], f"case {seed} ({name}) was parsed"
        assert replica.parts.slot.require().champion.version == 1, f"case {seed} ({name})"
        assert f"Version {2 + seed} could not be put in place" in (replica.parts.follower.trouble or ""), f"case {seed} ({name})"
    assert len(slow) <= 2, slow
    assert rss_mib() - before < 64


def test_of_250_harmed_packages_in_the_cache_none_is_used_and_each_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other half. With the store down nothing is answered with; with the store up the package is fetched anew and kept."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # 2,500 of them prove nothing here
    packages, told = DirectoryStore(tmp_path / "packages"), []
    good = Package(*a_package(0.4))
    digest = packages.put(*good)
    store = SimpleNamespace(get=packages.get)
    before = rss_mib()
    for seed in range(CASES // 2, CASES):
        directory = tmp_path / f"replica-{seed}"
        cache = PackageCache(directory, store, [KEY.public_key()], report=lambda *said: told.append(said))
        assert cache.scorer(digest, MODEL) == good.scorer
        name = harmed(directory / digest, seed, WORLD)
        put_down = seed % 2 == 0
        if put_down:
            store.get = is_down
            with pytest.raises((ScorerRefused, StoreUnreachable)):
                cache.scorer(digest, MODEL)
            store.get = packages.get
        assert cache.scorer(digest, MODEL) == good.scorer, f"case {seed} ({name})"
        store.get = is_down
        assert cache.scorer(digest, MODEL) == good.scorer, f"case {seed} ({name}): it was not kept"
        store.get = packages.get
        left = [path.name for path in directory.iterdir() if path.name != digest and not path.name.startswith("elsewhere-")]
        assert left == [], f"case {seed} ({name})"
    assert rss_mib() - before < 64
    reported = {what for what, *_ in told}
    assert reported == {"cached_package_refused"}
    assert len(told) >= (CASES // 2) * 0.85, "all but the files that are gone are told to the audit trail"
    assert all(set(digests) >= {"scorer_sha256"} for *_, digests in told)


def test_every_kind_of_harm_has_its_turn_and_does_harm(tmp_path: Path) -> None:
    """The corpus itself: 23 kinds, the same for the same seed, and none leaves a package as it was."""
    good = Package(*a_package(0.4))
    seen = set()
    for seed in range(len(HARMS) * 4):
        folder = tmp_path / str(seed) / sha256(good.scorer)
        put(folder, good)
        seen.add(harmed(folder, seed, WORLD))
        try:
            assert files.read_package(folder) != good
        except (ScorerRefused, OSError):
            continue
    assert seen == set(HARMS)


@pytest.mark.parametrize("name", ["scorer.json", "manifest.json", "signature", ""])
def test_a_link_is_not_followed_even_to_the_right_content(tmp_path: Path, name: str) -> None:
    """Whoever can place a link chooses what is read, and may change it after it was checked."""
    good = Package(*a_package(0.4))
    put(tmp_path / "package", good)
    assert files.read_package(tmp_path / "package") == good
    place = tmp_path / "package" / name
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(ScorerRefused, match="link"):
        files.read_package(tmp_path / "package")


def test_what_is_refused_says_what_was_found(tmp_path: Path) -> None:
    """The audit entry of a refusal names the digests of what lay there, so that it can be looked for elsewhere."""
    bad = signed(a_package(0.4)[0], STRANGER, MODEL)
    cache = PackageCache(tmp_path, SimpleNamespace(get=lambda _: bad), [KEY.public_key()])

    with pytest.raises(ScorerRefused) as refused:
        cache.scorer(sha256(bad.scorer), MODEL)

    assert refused.value.digests["found_signature"] == sha256(bad.signature)
    assert refused.value.digests["found_manifest"] == sha256(bad.manifest)
