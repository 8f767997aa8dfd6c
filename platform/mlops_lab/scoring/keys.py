"""The key that signs packages and audit entries: made at the first use, kept in a file that only its owner reads."""

import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from mlops_lab.errors import SettingsWrong

PRIVATE, PUBLIC = "signing.key", "signing.pub"


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


def verifying_key(folder: Path) -> Ed25519PublicKey:
    """The public half, for processes that must not be able to sign. Raises SettingsWrong where there is none."""
    path = folder / PUBLIC
    try:
        return Ed25519PublicKey.from_public_bytes(path.read_bytes())
    except (OSError, ValueError) as error:
        raise SettingsWrong(f"There is no usable public key in {path}.", "run `lab up` once: it makes the keys of a home.") from error
