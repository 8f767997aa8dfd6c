"""Where published packages lie, addressed by the digest of their scorer. Written by training, downloaded by serving."""

import re
import shutil
import tempfile
import threading
from pathlib import Path
from typing import Protocol

from mlops_lab.durable import sync_directory, write_durably
from mlops_lab.errors import ScorerRefused, StoreUnreachable
from mlops_lab.scoring.files import LIMITS, Package, read_package
from mlops_lab.scoring.manifest import sha256

__all__ = ["DirectoryStore", "InTime", "Package", "PackageStore"]

_DIGEST = re.compile(r"[0-9a-f]{64}")
_SEE_TO_IT = "see to the share it is on; the model in place stays."


class PackageStore(Protocol):
    """Content-addressed packages. Kept by `DirectoryStore`, on disk or on any mounted share."""

    def put(self, scorer: bytes, manifest: bytes, signature: bytes) -> str:
        """Publish a package and give its address. The same package twice has the effect of once."""
        ...

    def get(self, digest: str) -> Package:
        """The package at an address.

        Raises:
            StoreUnreachable: It cannot be had, for whatever reason.
            ScorerRefused: What lies there is too large, or no ordinary files, so it was not read.
        """
        ...


class DirectoryStore:
    """One folder per package: `<scorer_sha256>/{scorer.json,manifest.json,signature}`.

    A folder appears whole or not at all: it is written aside, flushed, then renamed. A package whose scorer is there already
    but whose manifest or signature differ (a new signing key) replaces the old one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def put(self, scorer: bytes, manifest: bytes, signature: bytes) -> str:
        """See PackageStore.put. Raises StoreUnreachable where the disk does not take it."""
        digest, package = sha256(scorer), Package(scorer, manifest, signature)
        target = self.path / digest
        try:
            if _read_if_whole(target) == package:
                return digest
            self.path.mkdir(parents=True, exist_ok=True)
            aside = Path(tempfile.mkdtemp(prefix=".incoming-", dir=self.path))
            try:
                for name, content in zip(LIMITS, package, strict=True):
                    write_durably(aside / name, content)
                aside.chmod(0o755)
                self._swap_in(aside, target)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
            sync_directory(self.path)
        except OSError as error:
            raise StoreUnreachable.at(str(self.path), str(error)) from error
        return digest

    def get(self, digest: str) -> Package:
        """See PackageStore.get."""
        if not _DIGEST.fullmatch(digest):
            raise StoreUnreachable.at(str(self.path), f"'{digest}' is no address, which is 64 lower-case hexadecimal digits")
        try:
            return read_package(self.path / digest)
        except FileNotFoundError as error:
            raise StoreUnreachable(
                f"The store at {self.path} holds no package {digest[:12]}.",
                "publish it again with `lab train`, or see `lab doctor`.",
            ) from error
        except OSError as error:
            raise StoreUnreachable.at(str(self.path), str(error)) from error

    def _swap_in(self, aside: Path, target: Path) -> None:
        try:
            aside.rename(target)
        except OSError:
            if not target.is_dir():
                raise
            if _read_if_whole(target) == read_package(aside):  # somebody else was quicker with the same package
                return
            old = Path(tempfile.mkdtemp(prefix=".outgoing-", dir=self.path))
            target.rename(old / "package")
            aside.rename(target)
            shutil.rmtree(old, ignore_errors=True)


class InTime:
    """Another store with a deadline: a share that hangs costs a reader seconds, not for ever, and does not keep a process from ending.

    A read that hangs cannot be interrupted, so it is left to a thread of its own, one at a time: while it hangs, the store is said to be
    down without asking it again.

    Args:
        store: Answers, sooner or later.
        deadline_s: Seconds after which it is taken for down.
    """

    def __init__(self, store: PackageStore, deadline_s: float) -> None:
        self._store = store
        self._deadline_s = deadline_s
        self._asking: threading.Thread | None = None

    def put(self, scorer: bytes, manifest: bytes, signature: bytes) -> str:
        """See PackageStore.put; it takes its time."""
        return self._store.put(scorer, manifest, signature)

    def get(self, digest: str) -> Package:
        """See PackageStore.get. Raises StoreUnreachable after the deadline too."""
        if self._asking is not None and self._asking.is_alive():
            raise StoreUnreachable("The package store still hangs over an earlier read.", _SEE_TO_IT)
        found: list[Package] = []
        failed: list[Exception] = []

        def ask() -> None:
            try:
                found.append(self._store.get(digest))
            except Exception as error:  # raised below, in the thread that asked
                failed.append(error)

        self._asking = threading.Thread(target=ask, name="package-download", daemon=True)
        self._asking.start()
        self._asking.join(self._deadline_s)
        if failed:
            raise failed[0]
        if not found:
            raise StoreUnreachable(f"The package store did not answer within {self._deadline_s:g} s.", _SEE_TO_IT)
        return found[0]


def _read_if_whole(folder: Path) -> Package | None:
    try:
        return read_package(folder)
    except (FileNotFoundError, ScorerRefused):
        return None
