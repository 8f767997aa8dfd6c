"""A forest of decision trees as plain data: what training exports, what a package file holds, what the scorer evaluates.

The file is canonical JSON (sorted keys, no spaces), so that one forest has one digest:

    {"baseline": log-odds, "categories": {feature: {name: code}}, "features": [{"kind", "meaning", "name", "unit"}],
     "format": "mlops-lab-scorer/1", "trees": [[node, ...], ...]}

A node is a leaf, written as one number (log-odds to add), or a split, written as `[feature, test, missing_left, left, right]`:
`feature` is an index into `features`; `test` is a number (go left when value <= test), null (every known number goes left) or
a sorted list of category codes that go left; `missing_left` is 0 or 1; `left` and `right` are node indices behind the node's own.
The answer is 1 / (1 + exp(-(baseline + one leaf of every tree))).
"""

import json
from dataclasses import asdict, dataclass

from mlops_lab.features.view import Feature
from mlops_lab.scoring.manifest import sha256

FORMAT = "mlops-lab-scorer/1"
LINK_LIMIT = 1e4
"""Largest magnitude of a baseline or leaf, log-odds."""

MAX_BYTES = 16 * 1024 * 1024
MAX_HEAD_BYTES = 512 * 1024
"""Everything before the trees. It is parsed in one step, which holds the interpreter for some tens of milliseconds at this size."""
MAX_TREE_BYTES = 40 * 1024
"""The largest tree that the other limits allow has some 35 kB."""
MAX_FEATURES = 256
MAX_TREES = 2_000
MAX_LEAVES = 32
"""Leaves per tree: one bit each of an unsigned 32 bit mask."""
MAX_CODES = 256
"""Distinct codes per category feature. Several names may share a code (rare categories)."""
MAX_NAMES = 16_384
"""Category names per feature."""
MAX_TEXT = 400
"""Characters of a feature's name, unit or meaning, or of a category."""
BEFORE_TREES = f',"format":"{FORMAT}","trees":['.encode()
"""Where the trees begin in the canonical file: their key is the last. No text can hold this, since a quote in a text is escaped."""


@dataclass(frozen=True, slots=True)
class Split:
    """An inner node. Exactly one of the two questions is asked, by the kind of its feature.

    Attributes:
        feature: Index of the feature.
        threshold: Number features: left when value <= threshold; None: every known number goes left.
        codes_left: Category features: codes that go left, ascending; other known codes go right. None for numbers.
        missing_left: Where missing values and unknown categories go.
        left: Index of the left child, larger than this node's own.
        right: Index of the right child, larger than this node's own.
    """

    feature: int
    threshold: float | None
    codes_left: tuple[int, ...] | None
    missing_left: bool
    left: int
    right: int


Node = Split | float
Tree = tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Forest:
    """A whole model.

    Attributes:
        features: The model's input, in order.
        categories: For each category feature its known names and their codes 0, 1, 2, ...
        baseline: Log-odds before any tree.
        trees: Each with its root first.
    """

    features: tuple[Feature, ...]
    categories: dict[str, dict[str, int]]
    baseline: float
    trees: tuple[Tree, ...]

    def to_bytes(self) -> bytes:
        """The canonical file. Equal forests give equal bytes."""
        document = {
            "format": FORMAT,
            "features": [asdict(feature) for feature in self.features],
            "categories": self.categories,
            "baseline": self.baseline,
            "trees": [[_written(node) for node in tree] for tree in self.trees],
        }
        return canonical(document)

    def digest(self) -> str:
        """SHA-256 of the canonical file: the model's identity and address."""
        return sha256(self.to_bytes())


def canonical(document: object) -> bytes:
    """JSON with sorted keys, no spaces, ASCII only; NaN and infinities raise ValueError."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def _written(node: Node) -> float | list[object]:
    if isinstance(node, float):
        return node
    test = node.threshold if node.codes_left is None else list(node.codes_left)
    return [node.feature, test, int(node.missing_left), node.left, node.right]
