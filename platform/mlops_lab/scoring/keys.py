"""The key that signs packages and audit entries: made at the first use, kept in a file that only its owner reads."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat, load_pem_public_key

from mlops_lab.errors import SettingsWrong
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
        fresh = folder / f".{PRIVATE}.{os.getpid()}"
        raw = Ed25519PrivateKey.generate().private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
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
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    if not (folder / PUBLIC).exists():
        aside = folder / f".{PUBLIC}.{os.getpid()}"
        aside.write_bytes(public)
        aside.replace(folder / PUBLIC)
    return key


class KeyRing:
    """Public keys whose signatures hold: a file, or every `*.pub` of a folder, each 32 raw bytes or any number of PEM blocks.

    Read anew each time it is gone through, which is once per package: a key that is added or retired counts from then on, without a
    restart.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __iter__(self) -> Iterator[Ed25519PublicKey]:
        """The keys. Raises SettingsWrong where there is none, or a file is no key: then nothing is trusted."""
        files = sorted(self.path.glob("*.pub")) if self.path.is_dir() else [self.path]
        keys = [key for file in files for key in _public_keys(file)]
        if not keys:
            raise SettingsWrong(f"There is no usable public key in {self.path}.", "run `lab up` once: it makes the keys of a home.")
        return iter(keys)


def fingerprint(key: Ed25519PublicKey) -> str:
    """How a key is named: the first 12 hexadecimal digits of the SHA-256 of its 32 bytes."""
    return sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw))[:12]


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
