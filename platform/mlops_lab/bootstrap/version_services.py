"""What each registered model version reads, for the feature store: taken from its signed package, not from anybody's word."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mlops_lab.bootstrap.lab import Lab

if TYPE_CHECKING:
    from mlops_lab.features.on_feast_services import VersionService


def register_versions(lab: Lab) -> "list[VersionService]":
    """Give each version of the ledger its feature service. Again changes nothing. Its import takes seconds.

    Raises:
        SettingsWrong: The home has no online store.
        ScorerRefused: A package is not what it was signed as.
        FeatureStoreUnreachable: The registry cannot be written.
    """
    from mlops_lab.bootstrap.feature_store import feature_store
    from mlops_lab.features.on_feast_services import register

    store = feature_store(lab.settings)
    versions = {version.number: (_features(lab, version.scorer_sha256), version.scorer_sha256) for version in lab.ledger.versions()}
    try:
        store.apply()
        return register(store, versions)
    finally:
        store.close()


def _features(lab: Lab, digest: str) -> Sequence[str]:
    from mlops_lab.scoring.keys import KeyRing
    from mlops_lab.scoring.manifest import check
    from mlops_lab.scoring.scorer import Scorer

    package = lab.packages.get(digest)
    check(package.scorer, package.manifest, package.signature, KeyRing(lab.keys, also_retired=True))
    return [feature.name for feature in Scorer.from_bytes(package.scorer).features]
