"""What a follower is tested with: what a replica answers and tries, and packages that may not be loaded."""

from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mlops_lab.registry.version import Role
from mlops_lab.scoring.manifest import Manifest, sha256, sign
from serving_builders import KEY, Replica, a_package


def probability(replica: Replica) -> float | None:
    loaded = replica.parts.slot.current
    return None if loaded is None else loaded.scorer.score_rows([(None, None, None)])[0]


def tampered_scorer() -> tuple[bytes, bytes, bytes]:
    scorer, manifest, signature = a_package(0.9)
    return scorer.replace(b"0.9", b"0.8"), manifest, signature


def signed_by_a_stranger() -> tuple[bytes, bytes, bytes]:
    return a_package(0.9, key=Ed25519PrivateKey.generate())


def of_another_model() -> tuple[bytes, bytes, bytes]:
    scorer, _, _ = a_package(0.9)
    manifest = Manifest("somebody-else's", sha256(scorer), "d" * 64, "e" * 64)
    return scorer, manifest.to_bytes(), sign(manifest, KEY)


def well_signed_nonsense() -> tuple[bytes, bytes, bytes]:
    return a_package(float("nan"))


def wants_an_unknown_feature() -> tuple[bytes, bytes, bytes]:
    return a_package(0.9, features=("hour", "price"))


def on_trial(replica: Replica) -> dict[str, tuple[int, int]]:
    """Version and permille of canary and shadow, as far as there are any."""
    lineup = replica.parts.slot.require()
    found = {"canary": (lineup.canary, lineup.canary_permille), "shadow": (lineup.shadow, lineup.shadow_permille)}
    return {role: (loaded.version, permille) for role, (loaded, permille) in found.items() if loaded is not None}


def state_of(replica: Replica, name: str) -> str:
    return next(each.state for each in replica.parts.follower.dependencies() if each.name == name)


def tried(replica: Replica, version: int | None, role: Role, weight: float, p: float = 0.6, **how: Any) -> None:
    digest = "" if version is None else replica.store.put(a_package(p))
    replica.books.promote(version, digest, role, weight, **how)
