"""A download that is cut, killed or hangs leaves nothing half, and keeps nobody from ending."""

import errno
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from forest_builders import a_large_forest
from hostile_packages import signed
from mlops_lab.errors import ScorerRefused, StoreUnreachable
from mlops_lab.scoring import DirectoryStore, InTime, Package, files
from mlops_lab.serving.cache import PackageCache
from package_builders import is_down
from serving_builders import KEY, MODEL, a_package


class CutOs:
    """`os` whose reads end after so many bytes: with an error, as if the file ended, or not at all."""

    def __init__(self, after: int, how: str, released: threading.Event) -> None:
        self._left, self._how, self._released = after, how, released

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def read(self, descriptor: int, count: int) -> bytes:
        if self._left <= 0:
            if self._how == "error":
                raise OSError(errno.EIO, "the share is gone")
            if self._how == "end":
                return b""
            self._released.wait(30)
            raise OSError(errno.ESTALE, "too late")
        piece = os.read(descriptor, min(count, self._left))
        self._left -= len(piece)
        return piece


def test_a_download_that_is_cut_anywhere_leaves_nothing_that_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """200 cut points over the bytes of the three files: a read error, an end too early, a share that hangs. 0 partial packages."""
    packages = DirectoryStore(tmp_path / "packages")
    good = Package(*a_package(0.4))
    digest = packages.put(*good)
    whole, rng = sum(map(len, good)), random.Random(5)
    for case in range(200):
        how = ("error", "end", "hang")[case % 3] if case % 10 == 2 else ("error", "end")[case % 2]
        directory, released = tmp_path / f"cache-{case}", threading.Event()
        store = InTime(packages, 0.05 if how == "hang" else 30.0)
        cache = PackageCache(directory, store, [KEY.public_key()])
        monkeypatch.setattr(files, "os", CutOs(rng.randrange(whole), how, released))
        with pytest.raises((StoreUnreachable, ScorerRefused)):
            cache.scorer(digest, MODEL)
        if how == "hang":
            with pytest.raises(StoreUnreachable, match="still hangs"):
                cache.scorer(digest, MODEL)
        assert not directory.exists() or list(directory.iterdir()) == []
        released.set()
        monkeypatch.setattr(files, "os", os)
        deadline = time.monotonic() + 10
        while True:
            try:
                assert cache.scorer(digest, MODEL) == good.scorer
                break
            except StoreUnreachable:  # the read that hung is just ending
                assert time.monotonic() < deadline
                time.sleep(0.01)


KILLED = """
import sys, itertools
from pathlib import Path
from types import SimpleNamespace
from mlops_lab.scoring import DirectoryStore
from mlops_lab.scoring.keys import KeyRing
from mlops_lab.serving.cache import PackageCache
home, digests = Path(sys.argv[1]), sys.argv[2:]
cache = PackageCache(home / "cache", DirectoryStore(home / "packages"), KeyRing(home / "key.pub"), keep=1)
for digest in itertools.cycle(digests):
    cache.scorer(digest, "m")
    print("one", flush=True)
"""


def test_a_process_that_is_killed_while_it_downloads_leaves_nothing_half(tmp_path: Path) -> None:
    """20 kills at random moments of a process that downloads without a pause; then the cache is read with the store down."""
    packages, forest = DirectoryStore(tmp_path / "packages"), a_large_forest(trees=150).to_bytes()
    (tmp_path / "key.pub").write_bytes(KEY.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))
    contents = {packages.put(*signed(forest + bytes([n]), KEY, "m")): forest + bytes([n]) for n in range(3)}
    rng, left_over, whole = random.Random(2), 0, 0
    for _ in range(20):
        child = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path), *contents], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(rng.uniform(0, 0.15))
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        left_over += sum(path.name.startswith("tmp-") for path in (tmp_path / "cache").iterdir())
        cache = PackageCache(tmp_path / "cache", SimpleNamespace(get=is_down), [KEY.public_key()])
        for digest in cache.holds():
            assert cache.scorer(digest, "m") == contents[digest]
            whole += 1
        with pytest.raises(StoreUnreachable):
            cache.scorer("0" * 64, "m")
        assert not list((tmp_path / "cache").glob("tmp-*")), "what was left is swept"
    assert whole, "otherwise this test proves nothing"
    assert left_over, "otherwise no kill fell into a download"


def test_a_read_that_hangs_does_not_keep_a_process_from_ending() -> None:
    program = (
        "import threading; from types import SimpleNamespace; from mlops_lab.scoring import InTime\n"
        "store = InTime(SimpleNamespace(get=lambda digest: threading.Event().wait()), 0.2)\n"
        "try: store.get('0' * 64)\nexcept Exception as error: print(error)"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)

    assert "did not answer within 0.2 s" in done.stdout
