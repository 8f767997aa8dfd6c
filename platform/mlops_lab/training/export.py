"""From a trained model to a scorer file, and the proof that both answer alike."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from mlops_lab.errors import EvidenceMissing, ScorerRefused
from mlops_lab.features.view import Kind
from mlops_lab.scoring.forest import Forest, Split
from mlops_lab.scoring.scorer import Scorer
from mlops_lab.training.port import Fitted
from mlops_lab.training.rows import model_frame, values_of

PARITY_ROWS = 10_000
_GROUP = 7
UNKNOWN_CATEGORY = "\x00never seen"


@dataclass(frozen=True, slots=True)
class Parity:
    """How close scorer and pipeline came: the largest difference in probability over so many rows."""

    rows: int
    max_difference: float


def export(fitted: Fitted) -> bytes:
    """The scorer file (canonical JSON). Equal models give equal bytes."""
    return fitted.forest().to_bytes()


def check_parity(fitted: Fitted, scorer: Scorer, rows: pd.DataFrame, tolerance: float = 1e-6, seed: int = 7) -> Parity:
    """Compare scorer and pipeline on at least 10,000 rows, most of them spoilt on purpose.

    10,000 rows are drawn from those given, each once as long as there are enough, and scored as they are; then once more, changed cell
    by cell: missing values, categories never seen, numbers far out of range, numbers exactly on a threshold and next to it. One row is
    missing throughout. The scorer answers in a batch, one by one, and in the small groups of a service.

    Args:
        fitted: The trained model.
        scorer: Read back from what `export` wrote.
        rows: Frame with the recipe's features, at least one row.
        tolerance: Largest difference in probability that passes.

    Raises:
        ScorerRefused: They differ by more, or answer something that is no probability.
        EvidenceMissing: There are no rows to compare on.
    """
    if rows.empty:
        raise EvidenceMissing("Parity of scorer and pipeline was asked for without a row.", "give the training rows.")
    probes = _probes(model_frame(rows, fitted.recipe.features), fitted.forest(), seed)
    expected = fitted.predict(probes)
    values = values_of(probes, fitted.recipe.features)
    batch = scorer.score(scorer.encode(values))
    single = np.array([scorer.score_one(row) for row in values])
    together = np.array([answer for start in range(0, len(values), _GROUP) for answer in scorer.score_rows(values[start : start + _GROUP])])
    for path, answers in (("in a batch", batch), ("one by one", single), ("in groups", together)):
        differences = np.abs(answers - expected)
        worst = int(np.argmax(np.where(np.isnan(differences), np.inf, differences)))
        if not differences[worst] <= tolerance:
            raise ScorerRefused(
                f"The scorer ({path}) differs from the pipeline by {differences[worst]:.3g} on {values[worst]}, allowed is {tolerance:g}.",
                "do not publish this version: the export does not fit the installed scikit-learn.",
            )
    return Parity(len(probes), float(max(np.abs(answers - expected).max() for answers in (batch, single, together))))


def _probes(frame: pd.DataFrame, forest: Forest, seed: int) -> pd.DataFrame:
    """Twice PARITY_ROWS rows: as they are, and with about a third of their cells changed."""
    rng = np.random.default_rng(seed)
    drawn = rng.choice(len(frame), size=PARITY_ROWS, replace=len(frame) < PARITY_ROWS)
    probes = frame.iloc[np.concatenate((drawn, drawn))].reset_index(drop=True)
    spoilt = np.arange(2 * PARITY_ROWS) >= PARITY_ROWS
    for j, feature in enumerate(forest.features):
        kind_of_change = rng.choice(5, p=(0.64, 0.09, 0.09, 0.09, 0.09), size=len(probes)) * spoilt
        column = probes[feature.name].to_numpy(copy=True)
        if feature.kind is Kind.CATEGORY:
            column[np.isin(kind_of_change, (1, 3))] = np.nan
            column[np.isin(kind_of_change, (2, 4))] = UNKNOWN_CATEGORY
        else:
            column[kind_of_change == 1] = np.nan
            column[kind_of_change == 2] = rng.choice((-1e300, -1e9, 0.0, 1e9, 1e300), size=int((kind_of_change == 2).sum()))
            thresholds = _thresholds(forest, j)
            if len(thresholds):
                column[kind_of_change == 3] = rng.choice(thresholds, size=int((kind_of_change == 3).sum()))
                near = rng.choice(thresholds, size=int((kind_of_change == 4).sum()))
                column[kind_of_change == 4] = np.nextafter(near, rng.choice((-np.inf, np.inf), size=len(near)))
        column[-1] = np.nan
        probes[feature.name] = column
    return probes


def _thresholds(forest: Forest, feature: int) -> list[float]:
    splits = [node for tree in forest.trees for node in tree if isinstance(node, Split) and node.feature == feature]
    return sorted({split.threshold for split in splits if split.threshold is not None})
