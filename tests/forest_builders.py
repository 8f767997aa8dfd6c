"""Forests of the size that is trained for flights, made up: they need no data and no scikit-learn."""

import random

from mlops_lab.features.view import Feature, Kind, Value
from mlops_lab.scoring import Forest, Split


def a_large_forest(trees: int = 150, leaves: int = 31, seed: int = 7) -> Forest:
    """Sixteen numbers with up to 255 thresholds each, and categories of 3, 16, 40 and 105 names."""
    rng = random.Random(seed)
    sizes = {"origin": 3, "carrier": 16, "tail_maker": 40, "destination": 105}
    features = tuple(Feature(f"number_{i}", Kind.NUMBER, "", "") for i in range(16)) + tuple(
        Feature(n, Kind.CATEGORY, "", "") for n in sizes
    )
    names = {name: {f"{name}-{i}": i for i in range(size)} for name, size in sizes.items()}
    thresholds = [sorted(rng.uniform(0, 100) for _ in range(255)) for _ in range(16)]

    def a_tree() -> tuple[Split | float, ...]:
        nodes: list[Split | float] = []
        for i in range(leaves - 1):  # heap order: a child comes after its parent
            feature = rng.randrange(len(features))
            known = names.get(features[feature].name)
            codes = None if known is None else tuple(sorted(rng.sample(range(len(known)), len(known) // 2)))
            threshold = rng.choice(thresholds[feature]) if known is None else None
            nodes.append(Split(feature, threshold, codes, rng.random() < 0.5, 2 * i + 1, 2 * i + 2))
        return (*nodes, *(rng.uniform(-0.1, 0.1) for _ in range(leaves)))

    return Forest(features, names, -1.0, tuple(a_tree() for _ in range(trees)))


def some_values(forest: Forest, count: int, seed: int = 1) -> list[list[Value]]:
    """Rows with a tenth of the values missing."""
    rng = random.Random(seed)

    def value(feature: Feature) -> Value:
        if rng.random() < 0.1:
            return None
        return rng.uniform(0, 100) if feature.kind is Kind.NUMBER else rng.choice(list(forest.categories[feature.name]))

    return [[value(feature) for feature in forest.features] for _ in range(count)]
