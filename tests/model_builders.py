"""Small models and rows with human defaults: a made-up year of flights whose lateness depends on hour, wind and airport."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pandas as pd
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mlops_lab.features.view import Feature, Kind
from mlops_lab.registry.candidate import Candidate, DataInput
from mlops_lab.scoring import Forest, Manifest, Package, Split, sha256, sign
from mlops_lab.training import Interval, Recipe
from mlops_lab.training.evaluate import Evaluation, SliceMeasure
from mlops_lab.training.rows import TrainingRows

FEATURES = (
    Feature("hour", Kind.NUMBER, "h", "scheduled hour of departure, local"),
    Feature("origin", Kind.CATEGORY, "", "airport of departure"),
    Feature("wind", Kind.NUMBER, "mph", "last wind speed at the origin"),
    Feature("destination", Kind.CATEGORY, "", "airport of arrival"),
)
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
NEW_YEAR = datetime(2013, 1, 1, tzinfo=UTC)


def a_recipe(**changes: object) -> Recipe:
    recipe = Recipe("small", FEATURES, rounds=20, max_leaf_nodes=15)
    return replace(recipe, **changes)  # type: ignore[arg-type]


def some_rows(count: int = 2_000, days: int = 20, seed: int = 1) -> TrainingRows:
    """Rows spread evenly over days; some winds and destinations are missing."""
    rng = np.random.default_rng(seed)
    hour = rng.integers(5, 24, count).astype(float)
    origin = rng.choice(["EWR", "JFK", "LGA"], count)
    wind = np.where(rng.random(count) < 0.1, np.nan, rng.gamma(3, 4, count))
    destination = rng.choice(np.array([f"D{i:02d}" for i in range(40)], dtype=object), count)
    destination[rng.random(count) < 0.05] = None
    log_odds = -2.5 + 0.12 * (hour - 5) + 0.05 * np.nan_to_num(wind, nan=30.0) + 0.8 * (origin == "LGA")
    labels = rng.random(count) < 1 / (1 + np.exp(-log_odds))
    moments = np.datetime64(NEW_YEAR.replace(tzinfo=None), "us") + np.arange(count) * (np.timedelta64(days * 86_400_000_000, "us") // count)
    frame = pd.DataFrame({"hour": hour, "origin": origin.astype(object), "wind": wind, "destination": destination})
    return TrainingRows(frame, labels, np.array([f"flight-{i:06d}" for i in range(count)]), moments)


def a_forest() -> Forest:
    """Two trees: one asks for the hour and the origin, one for a missing wind."""
    origin = {"EWR": 0, "JFK": 1, "LGA": 2}
    first = (Split(0, 12.5, None, True, 1, 2), -0.5, Split(1, None, (1, 2), False, 3, 4), 0.25, 0.75)
    second = (Split(2, None, None, False, 1, 2), 0.125, -0.25)
    return Forest(FEATURES, {"origin": origin, "destination": {}}, -1.0, (first, second))


def an_evaluation() -> Evaluation:
    interval = Interval(0.7, 0.65, 0.75)
    slices = (SliceMeasure("origin", "EWR", 900, 0.2, 0.21, 0.15, 0.7), SliceMeasure("origin", "(missing)", 3, 1.0, 0.5, 0.25, None))
    return Evaluation(2_000, 14, interval, interval, interval, interval, interval, interval, slices)


def a_candidate(order_id: str = "order-1", model: str = "flight-delay", **changes: object) -> Candidate:
    """A candidate that is consistent with its own manifest."""
    scorer, recipe, data = a_forest().to_bytes(), a_recipe(), "d" * 64
    manifest = Manifest(model, sha256(scorer), data, recipe.digest())
    candidate = Candidate(
        order_id=order_id,
        package=Package(scorer, manifest.to_bytes(), sign(manifest, KEY)),
        recipe=recipe,
        evaluation=an_evaluation(),
        inputs=(DataInput("flights", "flights", 3, data, 2_000), DataInput("weather", "weather", 1, "e" * 64, 500, "evaluation")),
        data_sha256=data,
        trained_until=NEW_YEAR,
        origin="first",
        registered_by="trainer",
        git_commit="0123abc",
        lock_sha256="f" * 64,
    )
    return replace(candidate, **changes)  # type: ignore[arg-type]
