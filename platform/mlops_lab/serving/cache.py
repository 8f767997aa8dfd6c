"""Model packages on this replica's disk, by digest: downloaded once, checked each time, usable when everything else is down."""

import logging
import os
import re
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol
from uuid import uuid4

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from mlops_lab.durable import sync_directory, write_durably
from mlops_lab.errors import ScorerRefused
from mlops_lab.scoring.files import LIMITS, read_package
from mlops_lab.scoring.manifest import check, sha256
from mlops_lab.serving.telling import Report

_DIGEST = re.compile(r"[0-9a-f]{64}")
_ASIDE = "tmp-"

_log = logging.getLogger(__name__)


class Packages(Protocol):
    """The part of `scoring.PackageStore` that a replica needs."""

    def get(self, digest: str) -> tuple[bytes, bytes, bytes]:
        """Scorer, manifest, signature. Raises StoreUnreachable, ScorerRefused."""
        ...


class PackageCache:
    """The last packages that were served here. A package is there whole and checked, or not at all.

    What lies in the folder is trusted no more than the store: it is read within limits, and checked anew each time.
    """

    def __init__(
        self, directory: Path, store: Packages, keys: Iterable[Ed25519PublicKey], *, keep: int = 3, report: Report | None = None
    ) -> None:
        """Args:
        directory: Made on first use; one replica uses it.
        store: Where packages come from.
        keys: Who may have signed them; gone through anew for each package, so that a retired key counts no more.
        keep: How many packages stay.
        report: Told of a package in the cache that had to be dropped. What is refused for good is raised instead.
        """
        self._directory = directory
        self._store = store
        self._keys = keys
        self._keep = keep
        self._report = report
        self._swept = False
        self._protected: frozenset[str] = frozenset()

    def protect(self, digests: Iterable[str]) -> None:
        """Packages that stay, however many others are used meanwhile: what a rollback goes back to, and what is on trial."""
        self._protected = frozenset(digests)

    def scorer(self, digest: str, model: str) -> bytes:
        """A package's scorer, from here or else from the store; its signature and digest hold.

        Raises:
            ScorerRefused: It is not what was signed, or it is another model's; `digests` says what was found.
            StoreUnreachable: It is not here and the store does not answer.
        """
        if not _DIGEST.fullmatch(digest):
            raise ScorerRefused(f"'{digest}' is not a digest.", "publish that version again with `lab train`.")
        self._sweep()
        place = self._directory / digest
        try:
            scorer = self._checked(read_package(place), digest, model)
            os.utime(place, follow_symlinks=False)
            return scorer
        except FileNotFoundError:  # ordinarily it is not here yet; a part of it would be in the download's way
            self._discard(place)
        except (ScorerRefused, OSError) as error:
            _log.error("serving.cached_package_dropped", extra={"digest": digest, "why": str(error)})
            self._discard(place)
            if self._report is not None and isinstance(error, ScorerRefused):
                self._report("cached_package_refused", f"{model}@{digest[:12]}", error.what, {"scorer_sha256": digest, **error.digests})
        package = self._store.get(digest)
        scorer = self._checked(package, digest, model)
        self._keep_package(place, package)
        return scorer

    def holds(self) -> list[str]:
        """The digests that are here, the last used first."""
        if not self._directory.is_dir():
            return []
        used = {place.name: place.lstat().st_mtime_ns for place in self._directory.iterdir() if _DIGEST.fullmatch(place.name)}
        return sorted(used, key=lambda name: used[name], reverse=True)

    def _checked(self, package: Sequence[bytes], digest: str, model: str) -> bytes:
        scorer, manifest, signature = package
        try:
            read = check(scorer, manifest, signature, self._keys)
            if read.scorer_sha256 != digest or read.model != model:
                raise ScorerRefused(
                    f"The package at {digest[:12]} is of model {read.model!r} with digest {read.scorer_sha256!r}.",
                    "find out who exchanged it; publish the version again with `lab train`.",
                )
        except ScorerRefused as error:
            error.digests = {"found_scorer": sha256(scorer), "found_manifest": sha256(manifest), "found_signature": sha256(signature)}
            raise
        return scorer

    def _keep_package(self, place: Path, package: Sequence[bytes]) -> None:
        """Put a checked package in place. A disk that does not take it is said and does not keep the model from answering."""
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            made = Path(tempfile.mkdtemp(prefix=_ASIDE, dir=self._directory))
            try:
                for name, content in zip(LIMITS, package, strict=True):
                    write_durably(made / name, content)
                sync_directory(made)
                made.rename(place)
            except OSError:
                _remove(made)
                raise
            sync_directory(self._directory)
            for digest in self.holds()[self._keep :]:
                if digest not in self._protected:
                    self._discard(self._directory / digest)
        except OSError as error:
            _log.error("serving.package_not_cached", extra={"digest": place.name, "why": str(error)})

    def _discard(self, place: Path) -> None:
        """Take away whatever is there, link, pipe or folder: out of the way in one step, then removed as far as that can be done."""
        aside = self._directory / f"{_ASIDE}{place.name}"
        try:
            _remove(aside)
            place.rename(aside)
        except OSError:
            aside = place
        _remove(aside)

    def _sweep(self) -> None:
        """Once, before anything is read: remove what a process left that was killed while it downloaded."""
        if not self._swept:
            self._swept = True
            for left_over in self._directory.glob(f"{_ASIDE}*"):
                _remove(left_over)


def _remove(place: Path) -> None:
    """Remove whatever is there. Folders inside are lifted out one by one, so that no depth of nesting is too deep."""
    pending = [place]
    try:
        while pending:
            at = pending.pop()
            if at.is_symlink() or not at.is_dir():
                at.unlink(missing_ok=True)
                continue
            for entry in list(at.iterdir()):
                if entry.is_symlink() or not entry.is_dir():
                    entry.unlink()
                else:
                    pending.append(entry.rename(place.with_name(f"{_ASIDE}{uuid4().hex}")))
            at.rmdir()
    except OSError as error:
        _log.error("serving.cannot_remove", extra={"path": str(place), "why": str(error)})
