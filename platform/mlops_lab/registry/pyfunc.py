"""What `mlflow.pyfunc.load_model` calls for our packages: the scorer behind a `predict(frame)`. No pickle, no code from the model.

The digest is checked against the package's manifest; the signature is not, since MLflow hands over no trusted keys. Serving checks both.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlops_lab.errors import ScorerRefused
from mlops_lab.scoring.manifest import Manifest, sha256
from mlops_lab.scoring.scorer import Scorer
from mlops_lab.training.rows import values_of


class FramePredictor:
    """A scorer that takes data frames."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer

    def predict(self, frame: pd.DataFrame, params: dict[str, object] | None = None) -> NDArray[np.float64]:
        """Probabilities of the positive class, shape (rows,). `params` is MLflow's and has no meaning here."""
        return self.scorer.score(self.scorer.encode(values_of(frame, self.scorer.features)))


def _load_pyfunc(path: str) -> FramePredictor:
    """MLflow's entry point; `path` is the package folder."""
    folder = Path(path)
    scorer = (folder / "scorer.json").read_bytes()
    if sha256(scorer) != Manifest.from_bytes((folder / "manifest.json").read_bytes()).scorer_sha256:
        raise ScorerRefused("The scorer's digest is not the one in its manifest.", "find out who changed it, then `lab train` again.")
    return FramePredictor(Scorer.from_bytes(scorer))
