"""Packages in an object store: one object each, so that a package is there whole or not at all."""

import re

from obstore import get, put
from obstore.exceptions import BaseError

from mlops_lab.errors import ScorerRefused, StoreUnreachable
from mlops_lab.objects.on_s3 import opened, unreachable
from mlops_lab.objects.place import Place
from mlops_lab.scoring.files import LIMITS, Package
from mlops_lab.scoring.manifest import sha256

_DIGEST = re.compile(r"[0-9a-f]{64}")
_MARK = b"mlops-lab package 1\n"
_LENGTH = 8
_MOST = len(_MARK) + sum(_LENGTH + limit for limit in LIMITS.values())


class S3Packages:
    """Keeps `PackageStore`. Safe for several processes: a put replaces the whole object, and the same package twice is the same object."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._store = opened(place)

    def put(self, scorer: bytes, manifest: bytes, signature: bytes) -> str:
        """See PackageStore.put. Raises StoreUnreachable."""
        digest = sha256(scorer)
        try:
            put(self._store, _key(digest), packed(Package(scorer, manifest, signature)), use_multipart=False)
        except (BaseError, OSError) as error:  # the client says that a bucket is missing with an OSError
            raise unreachable(self._place, error) from error
        return digest

    def get(self, digest: str) -> Package:
        """See PackageStore.get. At most 16 MiB are read."""
        if not _DIGEST.fullmatch(digest):
            raise StoreUnreachable.at(self._place.shown, f"'{digest}' is no address, which is 64 lower-case hexadecimal digits")
        try:
            answer = get(self._store, _key(digest))
            size = answer.meta["size"]
            if size > _MOST:
                raise _refused(digest, f"it has {size} bytes, at most {_MOST} are read")
            content = bytes(answer.bytes())
        except FileNotFoundError as error:
            raise StoreUnreachable(
                f"The store at {self._place.shown} holds no package {digest[:12]}.",
                "publish it again with `lab train`, or see `lab doctor`.",
            ) from error
        except BaseError as error:
            raise unreachable(self._place, error) from error
        return unpacked(digest, content)


def packed(package: Package) -> bytes:
    """The three files in a row, each behind its length in eight bytes, behind a mark that names the format."""
    return _MARK + b"".join(len(part).to_bytes(_LENGTH, "big") + part for part in package)


def unpacked(digest: str, content: bytes) -> Package:
    """The three files. Raises ScorerRefused where the object is not exactly three files of lawful size."""
    if not content.startswith(_MARK):
        raise _refused(digest, "it is no package")
    at, parts = len(_MARK), []
    for name, limit in LIMITS.items():
        length = int.from_bytes(content[at : at + _LENGTH], "big")
        at += _LENGTH
        if length > limit:
            raise _refused(digest, f"its {name} has {length} bytes, at most {limit} are read")
        parts.append(content[at : at + length])
        at += length
    if at != len(content):
        raise _refused(digest, f"it has {len(content)} bytes, and its files take {at}")
    return Package(*parts)


def _key(digest: str) -> str:
    return f"{digest}.package"


def _refused(digest: str, why: str) -> ScorerRefused:
    return ScorerRefused(
        f"The package {digest[:12]} was not read: {why}.", "find out who put it there; publish the version again with `lab train`."
    )
