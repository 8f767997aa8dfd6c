"""The key that signs packages and audit entries: made at the first use, kept in a file that only its owner reads."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat, load_pem_public_key

from mlops_lab.errors import SettingsWrong, UnknownName, UsageError
from mlops_lab.scoring.manifest import sha256

PRIVATE, PUBLIC = "signing.key", "signing.pub"

_PEM = re.compile(rb"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", re.DOTALL)
_MAX_KEY_FILE = 64 * 1024


def signing_key(folder: Path) -> Ed25519PrivateKey:
    """The private key of a home, made when there is none; its public half is written beside it for those who only verify.

    Raises:
        SettingsWrong: The file is there and is no key.
    """
    path = folder / PRIVATE
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        fresh = _written_aside(path, _private_bytes(Ed25519PrivateKey.generate()), 0o600)
        try:
            os.link(fresh, path)  # unlike a rename it never replaces the key that another process made first
        except FileExistsError:
            pass  # theirs is the key
        finally:
            fresh.unlink()
    try:
        key = Ed25519PrivateKey.from_private_bytes(path.read_bytes())
    except ValueError as error:
        raise SettingsWrong(
            f"{path} is not an Ed25519 key.", "restore it from a backup; without it old signatures cannot be continued."
        ) from error
    public = raw(key.public_key())
    if not (folder / PUBLIC).exists() or (folder / PUBLIC).read_bytes() != public:  # new, or a rotation was killed between the two
        _written_aside(folder / PUBLIC, public, 0o644).replace(folder / PUBLIC)
    return key


@dataclass(frozen=True, slots=True)
class KnownKey:
    """One key of a home.

    Attributes:
        name: Its fingerprint.
        state: `signs` (and is valid), `valid` (signs no more, what it signed is served), `retired` (nothing it signed is served).
        file: Where its public half is.
    """

    name: str
    state: Literal["signs", "valid", "retired"]
    file: Path


def known_keys(folder: Path) -> list[KnownKey]:
    """The keys of a home, the one that signs first. Raises SettingsWrong where a file is no key."""
    signs = fingerprint(signing_key(folder).public_key())
    found = {signs: KnownKey(signs, "signs", folder / PUBLIC)}
    for state, pattern in (("valid", "*.pub"), ("retired", "*.retired")):
        for file in sorted(folder.glob(pattern)):
            for key in _public_keys(file):
                found.setdefault(fingerprint(key), KnownKey(fingerprint(key), "valid" if state == "valid" else "retired", file))
    return list(found.values())


def rotate(folder: Path) -> tuple[str, str]:
    """Make a new key that signs from now on; what the one before signed stays valid until it is retired.

    Killed at any moment, it leaves a key that signs and whose signatures are valid.

    Returns:
        Fingerprints of the key before and of the new one.
    """
    old, new = signing_key(folder), Ed25519PrivateKey.generate()
    names = fingerprint(old.public_key()), fingerprint(new.public_key())
    for name, key in zip(names, (old, new), strict=True):  # valid before anything is signed with it
        place = folder / f"signing-{name}.pub"
        _written_aside(place, raw(key.public_key()), 0o644).replace(place)
    _written_aside(folder / PRIVATE, _private_bytes(new), 0o600).replace(folder / PRIVATE)
    signing_key(folder)  # writes its public half
    (folder / f"signing-{names[1]}.pub").unlink()
    return names


def retire(folder: Path, name: str) -> None:
    """From now on nothing that this key signed is loaded. What it sealed in the audit trail still verifies.

    Raises:
        UnknownName: No valid key has this fingerprint.
        UsageError: It is the key that signs.
    """
    known = {key.name: key for key in known_keys(folder) if key.state != "retired"}
    if name not in known:
        raise UnknownName.of("valid key", name, known)
    if known[name].state == "signs":
        raise UsageError(f"{name} is the key that signs.", "make another one first: `lab keys rotate`.")
    known[name].file.rename(folder / f"signing-{name}.retired")


class KeyRing:
    """Public keys whose signatures hold: a file, or every `*.pub` of a folder, each 32 raw bytes or any number of PEM blocks.

    Read anew each time it is gone through, which is once per package: a key that is added or retired counts from then on, without a
    restart.
    """

    def __init__(self, path: Path, *, also_retired: bool = False) -> None:
        """Args:
        path: The file or folder.
        also_retired: With `*.retired` of a folder, for what was signed in their time and is kept in order by other means.
        """
        self.path = path
        self._patterns = ("*.pub", "*.retired") if also_retired else ("*.pub",)

    def __iter__(self) -> Iterator[Ed25519PublicKey]:
        """The keys. Raises SettingsWrong where there is none, or a file is no key: then nothing is trusted."""
        files = [file for pattern in self._patterns for file in sorted(self.path.glob(pattern))] if self.path.is_dir() else [self.path]
        keys = [key for file in files for key in _public_keys(file)]
        if not keys:
            raise SettingsWrong(f"There is no usable public key in {self.path}.", "run `lab up` once: it makes the keys of a home.")
        return iter(keys)


def fingerprint(key: Ed25519PublicKey) -> str:
    """How a key is named: the first 12 hexadecimal digits of the SHA-256 of its 32 bytes."""
    return sha256(raw(key))[:12]


def raw(key: Ed25519PublicKey) -> bytes:
    """Its 32 bytes."""
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def _public_keys(path: Path) -> list[Ed25519PublicKey]:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_KEY_FILE)
        blocks = _PEM.findall(content)
        if not blocks:
            return [Ed25519PublicKey.from_public_bytes(content)]
        keys = [load_pem_public_key(block) for block in blocks]
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise SettingsWrong(f"There is no usable public key in {path}.", "run `lab up` once: it makes the keys of a home.") from error
    if not all(isinstance(key, Ed25519PublicKey) for key in keys):
        raise SettingsWrong(f"A key in {path} is no Ed25519 key.", "take it away, or name another file in LAB_SERVICE__VERIFYING_KEYS.")
    return [key for key in keys if isinstance(key, Ed25519PublicKey)]


def _private_bytes(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())


def _written_aside(path: Path, content: bytes, mode: int) -> Path:
    """A file beside, flushed, to be moved into place in one step."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return aside
