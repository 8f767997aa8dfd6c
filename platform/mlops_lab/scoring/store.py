"""Where published packages lie, addressed by the digest of their scorer. Written by training, downloaded by serving."""

import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple, Protocol

from mlops_lab.errors import StoreUnreachable
from mlops_lab.scoring.manifest import sha256

_DIGEST = re.compile(r"[0-9a-f]{64}")
_FILES = ("scorer.json", "manifest.json", "signature")


class Package(NamedTuple):
    """The three files of a published model, as bytes that nobody has checked yet (see `scoring.manifest.check`)."""

    scorer: bytes
    manifest: bytes
    signature: bytes


class PackageStore(Protocol):
    """Content-addressed packages. Kept by `DirectoryStore`, on disk or on any mounted share."""

    def put(self, scorer: bytes, manifest: bytes, signature: bytes) -> str:
        """Publish a package and give its address. The same package twice has the effect of once."""
        ...

    def get(self, digest: str) -> Package:
        """The package at an address. Raises StoreUnreachable where it cannot be had, for whatever reason."""
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
                for name, content in zip(_FILES, package, strict=True):
                    _write(aside / name, content)
                aside.chmod(0o755)
                self._swap_in(aside, target)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
            _flush_directory(self.path)
        except OSError as error:
            raise StoreUnreachable.at(str(self.path), str(error)) from error
        return digest

    def get(self, digest: str) -> Package:
        """See PackageStore.get."""
        if not _DIGEST.fullmatch(digest):
            raise StoreUnreachable.at(str(self.path), f"'{digest}' is no address, which is 64 lower-case hexadecimal digits")
        try:
            return _read(self.path / digest)
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
            if _read_if_whole(target) == _read(aside):  # somebody else was quicker with the same package
                return
            old = Path(tempfile.mkdtemp(prefix=".outgoing-", dir=self.path))
            target.rename(old / "package")
            aside.rename(target)
            shutil.rmtree(old, ignore_errors=True)


def _read(folder: Path) -> Package:
    return Package(*((folder / name).read_bytes() for name in _FILES))


def _read_if_whole(folder: Path) -> Package | None:
    try:
        return _read(folder)
    except FileNotFoundError:
        return None


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _flush_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
