"""The local pin: a signed word of a person that wins over the ledger, for when nothing but the replica's own disk can be reached.

`lab rollback` writes the same pin into the folder of every replica. A replica obeys it within a moment, also after a restart, until the
ledger has taken it in. A pin that is not signed by the home's key, or was changed, is no pin.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from mlops_lab.durable import sync_directory, write_durably
from mlops_lab.errors import NothingToPin, PinRefused
from mlops_lab.serving.known import Known, Served

FORMAT = "mlops-lab-pin/1"
PIN, STATE, CACHE = "pin.json", "state.json", "cache"
"""What is in a replica's folder, beside its log."""
_LARGEST_BYTES = 65536


@dataclass(frozen=True, slots=True)
class Pin:
    """What a signature covers.

    Attributes:
        id: Random, so that it is taken in once.
        number: 1 more than that of the pin before it: of two pins the higher one counts.
        model: Name of the registered model.
        version: What has to answer.
        scorer_sha256: Digest of its scorer.
        assignment: Id of the ledger's line by which it answered before.
        assigned_at: Event time of that line, ISO 8601.
        leaving: The version that answered until now.
        left_assignment: Id of the newest line that was known: neither it nor one before it brings `leaving` back.
        barred: `leaving`, and what earlier pins left that were not taken in yet.
        by: Who says so.
        why: A sentence.
        at: Wall time, ISO 8601.
        format: Version of this layout.
    """

    id: str
    number: int
    model: str
    version: int
    scorer_sha256: str
    assignment: int
    assigned_at: str
    leaving: int
    left_assignment: int
    barred: tuple[int, ...]
    by: str
    why: str
    at: str
    format: str = FORMAT

    @property
    def digest(self) -> str:
        """SHA-256 of what is signed."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def to_bytes(self) -> bytes:
        """Canonical JSON: sorted keys, no spaces. This is what is signed."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":")).encode()


def sealed(pin: Pin, key: Ed25519PrivateKey) -> bytes:
    """The content of a pin file."""
    return json.dumps({"pin": asdict(pin), "signature": key.sign(pin.to_bytes()).hex()}, indent=1).encode()


def opened(content: bytes, keys: Iterable[Ed25519PublicKey]) -> Pin:
    """The pin in a file's content.

    Raises:
        PinRefused: It is in no known layout, or its signature fits none of the keys.
    """
    try:
        document = json.loads(content)
        said, signature = document["pin"], bytes.fromhex(document["signature"])
        pin = Pin(**{**said, "barred": tuple(said["barred"])})
        for each in fields(Pin):
            value = getattr(pin, each.name)
            numbers = value if isinstance(value, tuple) else (value,) if each.type is int else ()
            if any(type(number) is not int for number in numbers) or (each.type is str and not isinstance(value, str)):
                raise ValueError(f"'{each.name}' is {value!r}")
        if pin.format != FORMAT:
            raise ValueError(f"its format is {pin.format!r}")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise PinRefused(f"The local pin is not in the known layout: {error!r}.", _AGAIN) from error
    for key in keys:
        try:
            key.verify(signature, pin.to_bytes())
            return pin
        except InvalidSignature:
            continue
    raise PinRefused("The local pin's signature fits none of the trusted keys.", _AGAIN)


_AGAIN = "find out who wrote it, remove the file, and roll back with `lab rollback`."


class PinFile:
    """`pin.json` of one replica, as the replica sees it: looked at twice a second, read when it changed."""

    def __init__(self, path: Path, keys: Iterable[Ed25519PublicKey]) -> None:
        self.path = path
        self._keys = keys
        self._seen: tuple[int, int, int] | None = None
        self._found: Pin | PinRefused | None = None

    def read(self) -> Pin | None:
        """The pin that is there, None for none. Raises PinRefused, each time."""
        try:
            stat = self.path.stat()
            seen = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
            if seen != self._seen:
                self._found = self._read(stat.st_size)
                self._seen = seen
        except FileNotFoundError:
            self._seen = self._found = None
        except OSError as error:
            raise PinRefused(f"The local pin {self.path} cannot be read: {error}.", "repair its permissions, or the disk.") from error
        if isinstance(self._found, PinRefused):
            raise self._found
        return self._found

    def _read(self, size: int) -> Pin | PinRefused:
        if size > _LARGEST_BYTES:
            return PinRefused(f"The local pin {self.path} has {size} bytes.", _AGAIN)
        try:
            return opened(self.path.read_bytes(), self._keys)
        except PinRefused as error:
            return error


@dataclass(frozen=True, slots=True)
class WayBack:
    """Where a rollback leads: from the version that answers to one that answered before it."""

    model: str
    leaving: int
    left_assignment: int
    barred: tuple[int, ...]
    choices: tuple[Served, ...]
    """The best first."""


def way_back(states: Iterable[Known], pins: Iterable[Pin] = (), to: int | None = None) -> WayBack:
    """Where to go back to, by what the replicas remember. The highest ledger line decides, never a time.

    Args:
        states: What each replica served.
        pins: Those that the replicas have to obey and the ledger has not taken in.
        to: A person's choice.

    Raises:
        NothingToPin: No replica served anything; or nothing before what answers now, or not the version chosen, that is not barred.
    """
    known = list(states)
    if not known:
        raise NothingToPin("No replica of this home remembers what it served.", "promote a version with `lab promote` first.")
    newest_pin = max(pins, key=lambda pin: pin.number, default=None)
    newest = max(known, key=lambda state: state.assignment)
    leaving = newest_pin.version if newest_pin else newest.version
    left = max(newest.assignment, newest.not_before, newest_pin.left_assignment if newest_pin else 0)
    out = set(newest_pin.barred if newest_pin else ()).union(*(state.barred for state in known))
    lines: dict[int, Served] = {}
    for served in sorted((each for state in known for each in state.all_served), key=lambda each: each.assignment):
        lines[served.version] = served
    choices = [served for served in reversed(lines.values()) if served.version not in out | {leaving}]
    choices.sort(key=lambda served: served.assignment, reverse=True)
    if to is not None:
        if to == leaving:
            raise NothingToPin(f"Version {to} answers already.", "leave out --to, or choose an earlier version.")
        if to in out:
            raise NothingToPin(f"Version {to} is barred: it was left before.", "choose another version with --to.")
        choices = [served for served in choices if served.version == to]
    if not choices:
        others = sorted(set(lines) - out - {leaving})
        hint = f"choose one of: {', '.join(map(str, others))}." if others else "it goes back only to what a replica served before."
        what = f"version {to}" if to is not None else "an earlier version that is not barred"
        raise NothingToPin(f"No replica remembers {what} to go back to from version {leaving}.", hint)
    barred = {leaving, *(newest_pin.barred if newest_pin else ())} - {choices[0].version}
    return WayBack(newest.model, leaving, left, tuple(sorted(barred)), tuple(choices))


@contextmanager
def changing(serving: Path) -> Iterator[None]:
    """Only one process at a time writes or removes pins of a home; the kernel lets go of the lock when its holder dies."""
    serving.mkdir(parents=True, exist_ok=True)
    fd = os.open(serving / ".pins.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def pins_in(serving: Path, keys: Iterable[Ed25519PublicKey]) -> tuple[dict[Path, Pin], dict[Path, PinRefused]]:
    """The pin files of all replicas of a home: those that hold, and those that do not."""
    good: dict[Path, Pin] = {}
    bad: dict[Path, PinRefused] = {}
    for path in sorted(serving.glob(f"*/{PIN}")):
        try:
            pin = PinFile(path, keys).read()
            if pin is not None:
                good[path] = pin
        except PinRefused as error:
            bad[path] = error
    return good, bad


def put(path: Path, pin: Pin, key: Ed25519PrivateKey) -> None:
    """Write a pin file: whole or not at all, and on the disk when this returns."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    write_durably(fresh, sealed(pin, key))
    fresh.replace(path)
    sync_directory(path.parent)


def to_body(pin: Pin) -> Mapping[str, object]:
    """A pin as the ledger keeps it."""
    return {**asdict(pin), "barred": list(pin.barred)}
