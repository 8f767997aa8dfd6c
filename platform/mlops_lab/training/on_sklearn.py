"""Training on scikit-learn: an ordinal encoder and histogram gradient boosting with native categories."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OrdinalEncoder
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no types

from mlops_lab.errors import NotEnoughData
from mlops_lab.features.view import Kind
from mlops_lab.scoring.forest import Forest, Node, Split, Tree
from mlops_lab.training.recipe import Recipe
from mlops_lab.training.rows import TrainingRows, model_frame

MAX_CATEGORIES = 250
"""Per feature; the rarest beyond share one code. Below the 255 bins of the boosting."""


@dataclass(frozen=True, slots=True)
class SklearnFitted:
    """Keeps training.port.Fitted."""

    recipe: Recipe
    pipeline: Pipeline

    def predict(self, frame: pd.DataFrame) -> NDArray[np.float64]:
        """See Fitted.predict. An empty frame gives an empty array."""
        if frame.empty:
            return np.empty(0)
        with threadpool_limits(limits=1, user_api="openmp"):
            return np.asarray(self.pipeline.predict_proba(model_frame(frame, self.recipe.features))[:, 1], dtype=np.float64)

    def forest(self) -> Forest:
        """See Fitted.forest."""
        boosting: Any = self.pipeline.named_steps["boosting"]
        order = _tree_columns(self.recipe)
        return Forest(
            features=self.recipe.features,
            categories=_codes(self.pipeline, self.recipe),
            baseline=float(boosting._baseline_prediction.ravel()[0]),
            trees=tuple(_tree(predictor, order) for (predictor,) in boosting._predictors),
        )


def fit(recipe: Recipe, rows: TrainingRows) -> SklearnFitted:
    """Fit a recipe.

    One thread and rows in the order of their keys: sums of floats depend on both, and equal orders have to give equal digests.

    Raises:
        NotEnoughData: Fewer rows than two leaves need, or labels of one kind only.
        FeaturesWrong: The rows lack a feature of the recipe, or hold it in another type.
    """
    late = int(rows.labels.sum())
    if len(rows) < 2 * recipe.min_samples_leaf or late in (0, len(rows)):
        raise NotEnoughData(
            f"{len(rows)} rows with {late} positive labels cannot train recipe '{recipe.name}'.",
            f"ingest more batches: it needs both labels and at least {2 * recipe.min_samples_leaf} rows.",
        )
    by_key = np.argsort(rows.keys, kind="stable")
    frame = model_frame(rows.features, recipe.features).iloc[by_key]
    pipeline = _pipeline(recipe)
    with threadpool_limits(limits=1, user_api="openmp"):
        pipeline.fit(frame, rows.labels[by_key])
    return SklearnFitted(recipe, pipeline)


def _pipeline(recipe: Recipe) -> Pipeline:
    categories = list(recipe.category_names)
    numbers = [name for name in recipe.feature_names if name not in recipe.category_names]
    encoder = OrdinalEncoder(
        handle_unknown="use_encoded_value",
        unknown_value=math.nan,
        encoded_missing_value=math.nan,
        max_categories=MAX_CATEGORIES,
        dtype=np.float64,
    )
    boosting = HistGradientBoostingClassifier(
        max_iter=recipe.rounds,
        learning_rate=recipe.learning_rate,
        max_leaf_nodes=recipe.max_leaf_nodes,
        min_samples_leaf=recipe.min_samples_leaf,
        l2_regularization=recipe.l2,
        categorical_features=list(range(len(categories))) if categories else None,
        early_stopping=False,  # "auto" would hold back a random tenth of the rows from 10,000 on
        random_state=recipe.seed,
    )
    columns = ColumnTransformer([("categories", encoder, categories), ("numbers", "passthrough", numbers)], sparse_threshold=0.0)
    return Pipeline([("columns", columns), ("boosting", boosting)])


def _tree_columns(recipe: Recipe) -> list[int]:
    """For each column that the trees see (categories first) the index of the recipe's feature."""
    return sorted(range(len(recipe.features)), key=lambda i: recipe.features[i].kind is not Kind.CATEGORY)


def _codes(pipeline: Pipeline, recipe: Recipe) -> dict[str, dict[str, int]]:
    """For each category feature its names and the codes that the trees see, through both encoders (the boosting has its own)."""
    if not recipe.category_names:
        return {}
    outer: Any = pipeline.named_steps["columns"].named_transformers_["categories"]
    inner: Any = pipeline.named_steps["boosting"]._preprocessor.named_transformers_["encoder"]
    names = [[name for name in known if isinstance(name, str)] for known in outer.categories_]
    longest = max(len(known) for known in names)
    codes: dict[str, dict[str, int]] = {name: {} for name in recipe.category_names}
    if not longest:
        return codes
    table = np.full((longest, len(names)), math.nan, dtype=object)
    for j, known in enumerate(names):
        table[: len(known), j] = known
    seen = inner.transform(outer.transform(pd.DataFrame(table, columns=list(recipe.category_names))))
    for j, feature in enumerate(recipe.category_names):
        codes[feature] = {name: int(seen[i, j]) for i, name in enumerate(names[j])}
    return codes


def _tree(predictor: Any, order: list[int]) -> Tree:
    """One tree of scikit-learn as plain data. Its nodes are in depth-first order already: children come after their parents."""
    nodes: list[Node] = []
    for node in predictor.nodes:
        if node["is_leaf"]:
            nodes.append(float(node["value"]))
            continue
        threshold, codes = float(node["num_threshold"]), None
        if node["is_categorical"]:
            words = predictor.raw_left_cat_bitsets[int(node["bitset_idx"])]
            codes = tuple(32 * w + bit for w, word in enumerate(words) for bit in range(32) if int(word) >> bit & 1)
        nodes.append(
            Split(
                feature=order[int(node["feature_idx"])],
                threshold=threshold if codes is None and math.isfinite(threshold) else None,  # infinite: known left, missing right
                codes_left=codes,
                missing_left=bool(node["missing_go_to_left"]),
                left=int(node["left"]),
                right=int(node["right"]),
            )
        )
    return tuple(nodes)
