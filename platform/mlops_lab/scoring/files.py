"""The three files of a package, read from a folder that nobody vouches for: bounded, regular files only, never waiting for one."""

import errno
import os
import stat
from pathlib import Path
from typing import NamedTuple

from mlops_lab.errors import ScorerRefused
from mlops_lab.scoring.forest import MAX_BYTES

LIMITS = {"scorer.json": MAX_BYTES, "manifest.json": 16 * 1024, "signature": 64}
"""The files of a package with the bytes that each may have."""

_PIECE = 1024 * 1024


class Package(NamedTuple):
    """The three files of a published model, as bytes that nobody has checked yet (see `scoring.manifest.check`)."""

    scorer: bytes
    manifest: bytes
    signature: bytes


def read_package(folder: Path) -> Package:
    """Read what lies there, at most 16 MiB of it, without following links.

    Raises:
        FileNotFoundError: One of the files, or the folder, is missing.
        ScorerRefused: A file is too large, or is a link, a pipe, a device or a folder.
        OSError: It cannot be read.
    """
    try:
        directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            raise _refused(f"folder {folder.name}", "it is a link or no folder") from error
        raise
    try:
        return Package(*(_read(directory, name, limit) for name, limit in LIMITS.items()))
    finally:
        os.close(directory)


def _read(directory: int, name: str, limit: int) -> bytes:
    try:
        # Not blocking: opening a pipe would wait for a writer, for ever.
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        raise
    except OSError as error:
        if not stat.S_ISREG(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            raise _refused(name, "it is a link, a pipe, a device or a folder") from error
        raise
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise _refused(name, "it is a link, a pipe, a device or a folder")
        if found.st_size > limit:
            raise _refused(name, f"it has {found.st_size} bytes, at most {limit} are read")
        pieces, left = [], limit + 1  # one more, to see a file that grows
        while left and (piece := os.read(descriptor, min(left, _PIECE))):
            pieces.append(piece)
            left -= len(piece)
    finally:
        os.close(descriptor)
    if not left:
        raise _refused(name, f"it has more than {limit} bytes")
    return b"".join(pieces)


def _refused(name: str, why: str) -> ScorerRefused:
    return ScorerRefused(
        f"The package's {name} was not read: {why}.", "find out who put it there; publish the version again with `lab train`."
    )
