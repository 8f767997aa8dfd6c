"""The model that answers right now: one immutable value behind one reference, so that a swap falls between two requests."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from mlops_lab.errors import NoChampion, ScorerRefused
from mlops_lab.features import Feature, Value

_AGAIN = "train and publish the version again with `lab train`."

Pick = Callable[[Sequence[Value]], tuple[Value, ...]]


class Scorer(Protocol):
    """The part of `scoring.Scorer` that answering needs."""

    @property
    def features(self) -> tuple[Feature, ...]:
        """What it reads, in its order."""
        ...

    def score_one(self, values: Sequence[Value]) -> float:
        """The probability for one row."""
        ...

    def encode(self, rows: Sequence[Sequence[Value]]) -> npt.NDArray[np.float64]:
        """Rows as numbers, shape (rows, features)."""
        ...

    def score(self, encoded: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Probabilities, shape (rows,)."""
        ...


@dataclass(frozen=True, slots=True)
class Loaded:
    """A champion that was downloaded, checked and tried.

    Attributes:
        model: Name of the registered model.
        version: Its number.
        assignment: Id of the ledger's line that put it in place.
        assigned_at: Event time of that line.
        scorer_sha256: Digest of the scorer.
        scorer: Answers.
        pick: Brings a row from the use case's order into the scorer's; None when both are the same.
    """

    model: str
    version: int
    assignment: int
    assigned_at: datetime
    scorer_sha256: str
    scorer: Scorer
    pick: Pick | None


class Slot:
    """Holds what answers. Reading or replacing `current` is one step, so a request sees one model from its start to its end."""

    __slots__ = ("current",)

    def __init__(self, current: Loaded | None = None) -> None:
        self.current = current

    def require(self) -> Loaded:
        """What answers. Raises NoChampion while there is none."""
        loaded = self.current
        if loaded is None:
            raise NoChampion("No model is in place to answer with.", "train and promote a version: `lab train`, `lab promote`.")
        return loaded


def picker(offered: Sequence[str], wanted: Sequence[Feature]) -> Pick | None:
    """How to get a scorer's features out of a row of the use case's features.

    Args:
        offered: Names in the order of `FeatureRow.values`.
        wanted: What the scorer reads.

    Raises:
        ScorerRefused: It wants a feature that is not offered, or none at all.
    """
    names = [feature.name for feature in wanted]
    missing = sorted(set(names) - set(offered))
    if missing or not names:
        what = f"'{missing[0]}'" if missing else "no feature at all"
        raise ScorerRefused(
            f"The scorer reads {what}, which this service does not compute.",
            "serve it with the code it was trained with, or `lab train` again.",
        )
    if names == list(offered):
        return None
    places = [list(offered).index(name) for name in names]
    if len(places) == 1:
        (place,) = places
        return lambda values: (values[place],)
    chosen: Any = itemgetter(*places)  # typed as if it could return a single value
    pick: Pick = chosen
    return pick


def try_out(scorer: Scorer) -> None:
    """Let a scorer answer a row without any known value, alone and in a batch, before it meets a request.

    Raises:
        ScorerRefused: It fails, or answers something that is not a probability.
    """
    nothing: tuple[Value, ...] = (None,) * len(scorer.features)
    try:
        batch = scorer.score(scorer.encode([nothing, nothing]))
        answers = [float(answer) for answer in (scorer.score_one(nothing), *batch)]
    except Exception as error:  # whatever a foreign model does, the one that answers stays
        raise ScorerRefused(f"The scorer fails on a row of missing values: {error!r}.", _AGAIN) from error
    if not all(0.0 <= answer <= 1.0 for answer in answers):
        raise ScorerRefused(f"The scorer answers {answers}, which are no probabilities.", _AGAIN)
