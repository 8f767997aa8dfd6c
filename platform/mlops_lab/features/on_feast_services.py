"""Feature services: by model version, which features it reads, so that Feast serves and trains a version with exactly these."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from feast import FeatureService

from mlops_lab.errors import UnknownName
from mlops_lab.features.on_feast import FeastStore, on_demand_view


class VersionService(NamedTuple):
    """The feature service of one model version.

    Attributes:
        name: `<model>-v<number>`.
        version: The number.
        features: The names that the version reads, in its order.
        scorer_sha256: Digest of what reads them.
    """

    name: str
    version: int
    features: tuple[str, ...]
    scorer_sha256: str


def service_name(model: str, version: int) -> str:
    """What the service of a version is called."""
    return f"{model}-v{version}"


def register(store: FeastStore, versions: Mapping[int, tuple[Sequence[str], str]]) -> list[VersionService]:
    """Give each model version its feature service. Again changes nothing.

    Args:
        store: Whose registry knows the views already, or is told now.
        versions: By number: the features that it reads, in its order, and its scorer's digest.

    Raises:
        UnknownName: A version reads a feature that the use case does not have.
        FeatureStoreUnreachable: The registry cannot be written.
    """
    use_case = store.use_case
    known = [feature.name for feature in use_case.features]
    for features, _ in versions.values():
        for name in features:
            if name not in known:
                raise UnknownName.of("feature", name, known)
    with store.outages():
        feast = store.opened()
        view = feast.get_on_demand_feature_view(on_demand_view(use_case))
        made: list[Any] = [
            FeatureService(
                name=service_name(use_case.model, number),
                features=[view[list(features)]],
                tags={"model": use_case.model, "version": str(number), "scorer_sha256": digest, "order": ",".join(features)},
                description=f"What {use_case.model} version {number} reads.",
            )
            for number, (features, digest) in sorted(versions.items())
        ]
        if made:
            feast.apply(made)
    return services(store)


def services(store: FeastStore) -> list[VersionService]:
    """The services of all registered versions, by number. Raises FeatureStoreUnreachable."""
    with store.outages():
        found = store.opened().list_feature_services()
    ours = [(each.name, each.tags) for each in found if each.tags.get("model") == store.use_case.model]
    told = [VersionService(name, int(tags["version"]), tuple(tags["order"].split(",")), tags["scorer_sha256"]) for name, tags in ours]
    return sorted(told, key=lambda each: each.version)
