"""The label on a model package: what is in it, what it came from, and who vouches for it."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from mlops_lab.errors import ScorerRefused

FORMAT = "mlops-lab-package/1"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a signature covers. Every field is plain text, so that reading it executes nothing.

    Attributes:
        model: Name of the registered model.
        scorer_sha256: Digest of the scorer's bytes; also its address in the store and in every cache.
        data_sha256: Digest of the training rows (features and labels, sorted), from which it was fitted.
        recipe_sha256: Digest of the recipe: features, parameters, seed.
        format: Version of this layout.
    """

    model: str
    scorer_sha256: str
    data_sha256: str
    recipe_sha256: str
    format: str = FORMAT

    def to_bytes(self) -> bytes:
        """Canonical JSON: sorted keys, no spaces, UTF-8. This is what is signed."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> "Manifest":
        """Read a manifest. Raises ScorerRefused where it is not exactly the known layout."""
        try:
            values: Mapping[str, Any] = json.loads(content)
            manifest = cls(**values)
        except (ValueError, TypeError, RecursionError) as error:
            raise ScorerRefused(
                "The package's manifest is not in the known layout.", "publish the version again with `lab train`."
            ) from error
        texts = all(isinstance(value, str) for value in asdict(manifest).values())
        if not texts or manifest.format != FORMAT or manifest.to_bytes() != content:
            raise ScorerRefused(f"The package's format is not '{FORMAT}'.", "publish the version again with `lab train`.")
        return manifest


def sha256(content: bytes) -> str:
    """Lower-case hexadecimal SHA-256."""
    return hashlib.sha256(content).hexdigest()


def sign(manifest: Manifest, key: Ed25519PrivateKey) -> bytes:
    """The 64 bytes of an Ed25519 signature over the canonical manifest."""
    return key.sign(manifest.to_bytes())


def check(scorer: bytes, manifest: bytes, signature: bytes, keys: Iterable[Ed25519PublicKey]) -> Manifest:
    """Verify a package before a byte of the scorer is parsed.

    Args:
        scorer: The scorer's bytes, as downloaded.
        manifest: The manifest's bytes, as downloaded.
        signature: 64 bytes.
        keys: Keys that may have signed it; one match is enough.

    Raises:
        ScorerRefused: The signature fits none of the keys, or the digest is not the manifest's.
    """
    for key in keys:
        try:
            key.verify(signature, manifest)
            break
        except InvalidSignature:
            continue
    else:
        raise ScorerRefused(
            "The package's signature fits none of the trusted keys.", "find out who wrote it; publish the version again with `lab train`."
        )
    read = Manifest.from_bytes(manifest)
    if sha256(scorer) != read.scorer_sha256:
        raise ScorerRefused(
            "The scorer's digest is not the one in its signed manifest.",
            "find out who changed it; publish the version again with `lab train`.",
        )
    return read
