"""Where model versions are described: numbers, lineage, metrics, files. Who serves is the ledger's business, not the catalog's."""

from typing import Final, NamedTuple, Protocol

from mlops_lab.errors import ScorerRefused
from mlops_lab.registry.candidate import Candidate
from mlops_lab.scoring.manifest import Manifest
from mlops_lab.scoring.store import Package

ALIAS: Final = "champion"


class Registered(NamedTuple):
    """A version's number (1, 2, 3, ...) and the tracking run that describes it."""

    number: int
    run_id: str


class Catalog(Protocol):
    """The catalog of one model. Kept by `in_memory.py` and `on_mlflow.py`; both pass tests/spec/test_catalog.py.

    Every method raises RegistryUnreachable when the backend does not answer.
    """

    @property
    def model(self) -> str:
        """Name of the registered model."""
        ...

    def register(self, candidate: Candidate) -> Registered:
        """Describe a candidate and give it the next number.

        The same `order_id` again, also after a crash half way, gives the same version and adds nothing.

        Raises:
            ScorerRefused: The candidate's manifest is another model's, or does not fit its scorer.
        """
        ...

    def versions(self) -> tuple[int, ...]:
        """All numbers, ascending."""
        ...

    def tags(self, version: int) -> dict[str, str]:
        """What is known about a version. Raises UnknownVersion."""
        ...

    def metrics(self, version: int) -> dict[str, float]:
        """What a version was worth when it was registered, as `Evaluation.metrics` names it. Raises UnknownVersion."""
        ...

    def tag(self, version: int, key: str, value: str) -> None:
        """Note something about a version, replacing what the key said. Raises UnknownVersion."""
        ...

    def package(self, version: int) -> Package:
        """The files of a version, unchecked. Raises UnknownVersion."""
        ...

    def project_alias(self, version: int | None) -> None:
        """Let the alias `champion` show what the ledger says: a version, or none. Raises UnknownVersion.

        The alias is a projection for people and tools; nothing in the platform decides by it.
        """
        ...

    def alias(self) -> int | None:
        """What the alias `champion` shows now; None if it is not set."""
        ...


def require_own(catalog_model: str, candidate: Candidate) -> None:
    """Refuse a candidate whose manifest belongs to another model or scorer. Raises ScorerRefused."""
    manifest = Manifest.from_bytes(candidate.package.manifest)
    expected = (catalog_model, candidate.scorer_sha256, candidate.data_sha256, candidate.recipe.digest())
    if (manifest.model, manifest.scorer_sha256, manifest.data_sha256, manifest.recipe_sha256) != expected:
        raise ScorerRefused(
            f"The manifest of order {candidate.order_id} does not describe this candidate of '{catalog_model}'.",
            "sign the manifest of the very scorer, rows and recipe that are registered.",
        )
