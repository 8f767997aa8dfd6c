"""What a trainer must give: something that predicts, and that can be written down as data."""

from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlops_lab.scoring.forest import Forest
from mlops_lab.training.recipe import Recipe
from mlops_lab.training.rows import TrainingRows


class Fitted(Protocol):
    """A trained model inside the process that trained it. It never leaves as such: see `export`."""

    @property
    def recipe(self) -> Recipe:
        """What it was fitted by."""
        ...

    def predict(self, frame: pd.DataFrame) -> NDArray[np.float64]:
        """Probabilities of the positive class, shape (rows,), for a frame with the recipe's features."""
        ...

    def forest(self) -> Forest:
        """The same model as plain data."""
        ...


class Trainer(Protocol):
    """Kept by `on_sklearn.fit`. Deterministic: equal recipe and equal rows, in any order, give an equal forest."""

    def __call__(self, recipe: Recipe, rows: TrainingRows) -> Fitted: ...
