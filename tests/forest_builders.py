"""Forests that are made up, of the size that is trained for flights or small: they need no data and no scikit-learn."""

import random
from typing import Any

from mlops_lab.features.view import Feature, Kind, Value
from mlops_lab.scoring import Forest, Split

THRESHOLDS = (-1e300, -2.5, -0.0, 0.5, 1.0, 7.25, 1e300)


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


def a_random_forest(seed: int) -> Forest:
    """Up to five trees of up to 32 leaves over up to six features of both kinds."""
    rng = random.Random(seed)
    features = tuple(Feature(f"f{i}", rng.choice(list(Kind)), "", "") for i in range(rng.randint(1, 6)))
    names = {f.name: {f"c{i}": i // 2 for i in range(rng.choice((0, 2, 6, 80)))} for f in features if f.kind is Kind.CATEGORY}

    def a_tree() -> tuple[Split | float, ...]:
        leaves, plan = rng.randint(1, 32), []  # plan: nodes in depth-first order, with the leaves below each
        pending = [(leaves, None)]
        nodes: list[Any] = []
        while pending:
            below, parent = pending.pop()
            at = len(nodes)
            if parent is not None:
                nodes[parent[0]][parent[1]] = at
            if below == 1:
                nodes.append(rng.uniform(-1, 1))
                continue
            nodes.append({"left": 0, "right": 0})
            left = rng.randint(1, below - 1)
            pending += [(below - left, (at, "right")), (left, (at, "left"))]
        for node in nodes:
            if isinstance(node, float):
                plan.append(node)
                continue
            feature = rng.randrange(len(features))
            known = names.get(features[feature].name)
            codes = None if known is None else tuple(sorted(c for c in set(known.values()) if rng.random() < 0.5))
            threshold = None if codes is not None or rng.random() < 0.1 else rng.choice(THRESHOLDS)
            plan.append(Split(feature, threshold, codes, rng.random() < 0.5, node["left"], node["right"]))
        return tuple(plan)

    return Forest(features, names, rng.uniform(-2, 2), tuple(a_tree() for _ in range(rng.randint(1, 5))))
