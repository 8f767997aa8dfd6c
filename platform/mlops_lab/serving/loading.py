"""From a digest to something that answers: fetched, checked, tried, and not asked for again and again when that fails."""

import random
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from mlops_lab.errors import LabError, StoreUnreachable
from mlops_lab.serving.cache import PackageCache
from mlops_lab.serving.loaded import Loaded, Scorer, picker, try_out

LONGEST_PAUSE_S = 10.0


class Loader:
    """Loads versions, through the cache.

    Attributes:
        store: How the last attempt went: `unused`, `ok`, `unreachable` or `refused`; what was loaded already says nothing new.
        store_why: The reason, empty where it went well.
    """

    def __init__(self, cache: PackageCache, load: Callable[[bytes], Scorer], offered: Sequence[str]) -> None:
        """Args:
        cache: Packages on this replica.
        load: Parses a scorer's bytes. Raises ScorerRefused.
        offered: Names of the use case's features, in the order of `FeatureRow.values`.
        """
        self._cache = cache
        self._load = load
        self._offered = tuple(offered)
        self.store = "unused"
        self.store_why = ""

    def loaded(
        self, model: str, number: int, assignment: int, assigned_at: datetime, digest: str, there: Iterable[Loaded | None] = ()
    ) -> Loaded:
        """A version, ready to answer.

        Args:
            there: What is loaded now: the same scorer is not loaded twice.

        Raises:
            ScorerRefused: A check failed.
            StoreUnreachable: Its package is not here and cannot be had.
        """
        for other in there:
            if other is not None and (other.model, other.scorer_sha256) == (model, digest):
                return Loaded(model, number, assignment, assigned_at, digest, other.scorer, other.pick)
        try:
            scorer = self._load(self._cache.scorer(digest, model))
            try_out(scorer)
            loaded = Loaded(model, number, assignment, assigned_at, digest, scorer, picker(self._offered, scorer.features))
        except Exception as error:
            self.store = "unreachable" if isinstance(error, StoreUnreachable) else "refused"
            self.store_why = error.what if isinstance(error, LabError) else repr(error)
            raise
        self.store, self.store_why = "ok", ""
        return loaded


class Retry:
    """When to try again what failed: after a pause that doubles up to 10 s. Another subject is tried at once."""

    def __init__(self, first_s: float) -> None:
        self._first_s = first_s
        self._subject: object = None
        self._pause_s = first_s
        self._due = 0.0

    def waits(self, subject: object) -> bool:
        """Whether it failed and its pause is not over."""
        return subject == self._subject and time.monotonic() < self._due

    def failed(self, subject: object) -> None:
        """Begin a pause."""
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S) if subject == self._subject else self._first_s
        self._subject = subject
        self._due = time.monotonic() + self._pause_s

    def succeeded(self) -> None:
        """Nothing has failed."""
        self._subject = None


def jittered(pause_s: float) -> float:
    """At least the pause, at most a third more, so that many replicas do not knock at the same moment."""
    return pause_s * (1 + random.random() / 3)
