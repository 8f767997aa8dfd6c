"""A request that was dealt to the canary: both versions score its rows, so that they can be compared in pairs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

from mlops_lab.errors import ModelError
from mlops_lab.features.view import FeatureRow
from mlops_lab.serving.answered import CANARY, CHAMPION, require_probabilities
from mlops_lab.serving.loaded import Loaded, picked, share_of

_TIMED_TWICE = 32
"""Up to so many rows the processor's cache decides how long scoring takes."""


@dataclass(frozen=True, slots=True)
class Tried:
    """Who answers such a request, with what, and what the log keeps of the comparison."""

    loaded: Loaded
    variant: str
    probabilities: list[float]
    trial: dict[str, object]


def on_trial(champion: Loaded, canary: Loaded, request_id: str, rows: Sequence[FeatureRow], fails: Callable[[str], bool]) -> Tried:
    """Score with both; the canary's answers are given unless it fails.

    Who comes first alternates by request: the second finds the rows in the processor's cache, which must not look like speed.

    Args:
        champion: Answers where the canary fails. What it raises itself is raised.
        canary: On trial.
        request_id: Of the request.
        rows: Its features.
        fails: A fault on purpose: whether the canary is to fail at this request.
    """
    order = (canary, champion) if share_of(champion.version, request_id) % 2 else (champion, canary)
    took: dict[str, float | None] = {}
    scores: dict[str, list[float]] = {}
    error = None
    for loaded in order:
        role = CANARY if loaded is canary else CHAMPION
        began = perf_counter()
        try:
            if role == CANARY and fails(request_id):
                raise ModelError("A fault on purpose fails this canary.", "unset LAB_FAULT__CANARY_ERROR_SHARE.")
            scores[role] = loaded.scorer.score_rows(picked(loaded, rows))
            took[role] = round((perf_counter() - began) * 1e6, 2)
            require_probabilities(loaded, rows, scores[role])
        except Exception as failed:
            if role == CHAMPION:
                raise
            error, took[CANARY] = repr(failed)[:200], None
    if error is None and len(rows) <= _TIMED_TWICE:
        # Who is asked rarely finds nothing of its own in the processor's cache: a canary of the champion's size takes 1.1 times as
        # long at a share of 50 %, 1.5 times at 2 %, and would not as champion. So it is the second time that is compared.
        for loaded in order:
            began = perf_counter()
            loaded.scorer.score_rows(picked(loaded, rows))
            took[CANARY if loaded is canary else CHAMPION] = round((perf_counter() - began) * 1e6, 2)
    trial: dict[str, object] = {
        "assignment": canary.assignment,
        "canary": canary.version,
        "champion": champion.version,
        "canary_first": order[0] is canary,
        "canary_us": took[CANARY],
        "champion_us": took[CHAMPION],
        "champion_probabilities": scores[CHAMPION],
        "error": error,
    }
    variant, loaded = (CHAMPION, champion) if error else (CANARY, canary)
    return Tried(loaded, variant, scores[variant], trial)
