"""The models that answer right now: one immutable line-up behind one reference, so that a swap falls between two requests."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from operator import itemgetter
from typing import Any, Protocol

from mlops_lab.errors import NoChampion, ScorerRefused
from mlops_lab.features import Feature, Value
from mlops_lab.features.view import FeatureRow

_AGAIN = "train and publish the version again with `lab train`."

Pick = Callable[[Sequence[Value]], tuple[Value, ...]]


class Scorer(Protocol):
    """The part of `scoring.Scorer` that answering needs."""

    @property
    def features(self) -> tuple[Feature, ...]:
        """What it reads, in its order."""
        ...

    def score_rows(self, rows: Sequence[Sequence[Value]]) -> list[float]:
        """Probabilities; each row's is the same to the bit whatever rows are beside it."""
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


@dataclass(frozen=True, slots=True)
class LineUp:
    """Who answers, and who is tried beside: one value, so that a request sees one line-up from its start to its end.

    Attributes:
        champion: Answers.
        canary: Answers `canary_permille` of the requests in the champion's place; None for none.
        canary_permille: 0 to 1000, in steps of 0.1 % of the requests.
        shadow: Scores `shadow_permille` of the requests after they were answered, and is only logged; None for none.
        shadow_permille: 0 to 1000.
    """

    champion: Loaded
    canary: Loaded | None = None
    canary_permille: int = 0
    shadow: Loaded | None = None
    shadow_permille: int = 0


class Slot:
    """Holds the line-up. Reading or replacing it is one step."""

    __slots__ = ("lineup",)

    def __init__(self, lineup: LineUp | None = None) -> None:
        self.lineup = lineup

    @property
    def current(self) -> Loaded | None:
        """The champion; None while there is none."""
        lineup = self.lineup
        return None if lineup is None else lineup.champion

    def require(self) -> LineUp:
        """Who answers. Raises NoChampion while there is nobody."""
        lineup = self.lineup
        if lineup is None:
            raise NoChampion("No model is in place to answer with.", "train and promote a version: `lab train`, `lab promote`.")
        return lineup


def share_of(salt: int, identifier: str) -> int:
    """Where a request falls, 0 to 999, evenly and always the same for the same salt: it is dealt to a share of n permille when below n.

    Args:
        salt: The model version on trial, so that each trial meets other requests, and a growing share keeps those it had.
        identifier: The request's id.
    """
    digest = blake2b(identifier.encode(), digest_size=8, salt=salt.to_bytes(8, "little")).digest()
    return int.from_bytes(digest, "little") % 1000


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


def picked(loaded: Loaded, rows: Iterable[FeatureRow]) -> list[Sequence[Value]]:
    """Rows of the use case's features as this model's scorer wants them."""
    pick = loaded.pick
    return [row.values for row in rows] if pick is None else [pick(row.values) for row in rows]


def try_out(scorer: Scorer) -> None:
    """Let a scorer answer a row without any known value, alone and in a batch, before it meets a request.

    Raises:
        ScorerRefused: It fails, or answers something that is not a probability.
    """
    nothing: tuple[Value, ...] = (None,) * len(scorer.features)
    try:
        answers = [float(answer) for rows in ([nothing], [nothing, nothing]) for answer in scorer.score_rows(rows)]
    except Exception as error:  # whatever a foreign model does, the one that answers stays
        raise ScorerRefused(f"The scorer fails on a row of missing values: {error!r}.", _AGAIN) from error
    if not all(0.0 <= answer <= 1.0 for answer in answers):
        raise ScorerRefused(f"The scorer answers {answers}, which are no probabilities.", _AGAIN)
