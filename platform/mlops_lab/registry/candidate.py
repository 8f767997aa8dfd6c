"""What is handed to the catalog: a trained, exported, measured and signed model with everything it came from."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from mlops_lab.clock import iso
from mlops_lab.errors import SettingsWrong
from mlops_lab.scoring.manifest import Manifest, sha256
from mlops_lab.scoring.store import Package
from mlops_lab.training.evaluate import Evaluation
from mlops_lab.training.recipe import Recipe

_ORDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,199}")


@dataclass(frozen=True, slots=True)
class DataInput:
    """One table version that the rows came from.

    Attributes:
        name: What a person calls it, such as `flights`.
        table: Table name.
        version: Table version, so that the very same rows can be read again.
        digest: SHA-256 of the rows taken from it.
        rows: Their number.
        context: `training` or `evaluation`.
    """

    name: str
    table: str
    version: int
    digest: str
    rows: int
    context: str = "training"

    @property
    def source(self) -> str:
        """`delta:<table>@<version>`."""
        return f"delta:{self.table}@{self.version}"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that asks to be registered.

    Attributes:
        order_id: The order that it was trained by; registering one order twice gives one version. Letters, digits and `._:/-`.
        package: Scorer, manifest and signature, as published.
        recipe: What it was fitted by.
        evaluation: What it is worth on rows behind its training rows.
        inputs: The table versions that its rows came from.
        data_sha256: Digest of the training rows.
        trained_until: Event time behind which it has seen no label.
        origin: `first`, `retrain`, `drill`, or a person's words.
        registered_by: Identity that ordered the training.
        git_commit: Of the code, `unknown` outside a checkout.
        lock_sha256: Digest of the installed lock file.
        tags: More facts by name.
    """

    order_id: str
    package: Package
    recipe: Recipe
    evaluation: Evaluation
    inputs: tuple[DataInput, ...]
    data_sha256: str
    trained_until: datetime
    origin: str
    registered_by: str
    git_commit: str
    lock_sha256: str
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _ORDER.fullmatch(self.order_id):
            raise SettingsWrong(f"'{self.order_id}' is no order id.", "use up to 200 letters, digits and any of ._:/-")

    @property
    def model(self) -> str:
        """The registered model's name, from the signed manifest."""
        return Manifest.from_bytes(self.package.manifest).model

    @property
    def scorer_sha256(self) -> str:
        return sha256(self.package.scorer)

    def facts(self) -> dict[str, str]:
        """The tags of its version: where it came from, as text."""
        own = {
            "order_id": self.order_id,
            "model": self.model,
            "scorer_sha256": self.scorer_sha256,
            "data_sha256": self.data_sha256,
            "recipe_sha256": self.recipe.digest(),
            "trained_until": iso(self.trained_until),
            "origin": self.origin,
            "registered_by": self.registered_by,
            "git_commit": self.git_commit,
            "lock_sha256": self.lock_sha256,
            "sources": " ".join(sorted({one.source for one in self.inputs})),
        }
        return {**self.tags, **own}
