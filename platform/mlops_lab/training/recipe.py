"""What to fit and how, as data. Two equal recipes on equal rows give the same model, byte by byte."""

from dataclasses import asdict, dataclass

from mlops_lab.errors import SettingsWrong
from mlops_lab.features.view import Feature, Kind
from mlops_lab.scoring.forest import MAX_LEAVES, MAX_TREES, canonical
from mlops_lab.scoring.manifest import sha256


@dataclass(frozen=True, slots=True)
class Recipe:
    """Histogram gradient boosting on a fixed list of features.

    Attributes:
        name: What a person calls it.
        features: The model's input, in order.
        rounds: Trees, 1 to 2,000. All are grown: there is no early stopping, which would need a part of the rows.
        learning_rate: Shrinkage, above 0, at most 1.
        max_leaf_nodes: Leaves per tree, 2 to 32 (the scorer keeps one bit for each).
        min_samples_leaf: Rows per leaf, at least 1.
        l2: L2 regularisation of leaf values, at least 0.
        seed: Of everything random.
    """

    name: str
    features: tuple[Feature, ...]
    rounds: int = 150
    learning_rate: float = 0.1
    max_leaf_nodes: int = 31
    min_samples_leaf: int = 20
    l2: float = 0.0
    seed: int = 7

    def __post_init__(self) -> None:
        names = [feature.name for feature in self.features]
        wrong = (
            ("features", "needs at least one, each name once", not names or len(set(names)) != len(names)),
            ("rounds", f"must be from 1 to {MAX_TREES}", not 1 <= self.rounds <= MAX_TREES),
            ("learning_rate", "must be above 0 and at most 1", not 0 < self.learning_rate <= 1),
            ("max_leaf_nodes", f"must be from 2 to {MAX_LEAVES}", not 2 <= self.max_leaf_nodes <= MAX_LEAVES),
            ("min_samples_leaf", "must be at least 1", self.min_samples_leaf < 1),
            ("l2", "must be at least 0", not self.l2 >= 0),
            ("seed", "must be from 0 to 4294967295", not 0 <= self.seed < 2**32),
        )
        for field, why, is_wrong in wrong:
            if is_wrong:
                raise SettingsWrong(f"Recipe '{self.name}': {field} {why}.", f"correct `{field}` in the use case's recipe.")

    @property
    def feature_names(self) -> tuple[str, ...]:
        return tuple(feature.name for feature in self.features)

    @property
    def category_names(self) -> tuple[str, ...]:
        return tuple(feature.name for feature in self.features if feature.kind is Kind.CATEGORY)

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return canonical(asdict(self))

    def digest(self) -> str:
        """SHA-256 of the canonical JSON."""
        return sha256(self.to_bytes())
