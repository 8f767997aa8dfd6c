"""What drift is measured against: the weeks a version was judged on, with its own answers; kept when it is judged."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlops_lab.bootstrap import Lab
from mlops_lab.errors import EvidenceMissing
from mlops_lab.training.rows import TrainingRows


def keep_reference(number: int, rows: TrainingRows, probabilities: NDArray[np.float64], lab: Lab) -> None:
    """Write features and answers, sorted by key, whole or not at all.

    Args:
        number: The version.
        rows: The newest closed weeks behind its training rows.
        probabilities: What the version says of them, shape (rows,).
        lab: The home.
    """
    order = np.argsort(rows.keys, kind="stable")
    table = rows.features.assign(probability=probabilities).iloc[order]
    path = _path(number, lab)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".partial")
    table.to_parquet(aside, index=False)
    aside.replace(path)


def read_reference(number: int, lab: Lab) -> pd.DataFrame:
    """The features of those weeks, and `probability`.

    Raises:
        EvidenceMissing: The version was never judged in this home, so there is nothing to compare with.
    """
    path = _path(number, lab)
    if not path.is_file():
        raise EvidenceMissing(f"Version {number} has no reference for drift.", f"judge it with `lab judge {number}`.")
    return pd.read_parquet(path)


def _path(number: int, lab: Lab) -> Path:
    return lab.home / "evidence" / f"reference-{number}.parquet"
