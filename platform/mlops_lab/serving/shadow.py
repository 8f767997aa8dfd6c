"""Rows that wait for the shadow: scored between requests, a few at a time, and logged; never answered, never in an answer's way."""

from collections import deque
from collections.abc import Sequence
from time import perf_counter

from mlops_lab.clock import Clock, iso
from mlops_lab.features.view import FeatureRow, Value
from mlops_lab.serving.answered import Answered
from mlops_lab.serving.loaded import Loaded

BACKLOG_ROWS = 4096
"""Rows that may wait; what comes on top is left out and counted."""
SLICE_ROWS = 64
"""Rows scored at a time: a third of a millisecond."""


_Waiting = tuple[Loaded, str, tuple[Value, ...], float]
"""The shadow, the id of the answer, the features, the champion's probability."""


class Shadow:
    """Used from the thread that answers.

    A frame of kind `shadow` holds `model model_version scorer_sha256 assignment scored_at took_us rows`, and each row `prediction_id
    probability champion_probability`. Where the shadow fails, `rows` is empty and `error` says why.
    """

    def __init__(self, clock: Clock) -> None:
        """Args:
        clock: Wall time.
        """
        self._clock = clock
        self._rows: deque[_Waiting] = deque()
        self.left_out = 0

    @property
    def waits(self) -> bool:
        """Whether there is something to score."""
        return bool(self._rows)

    def keep(self, loaded: Loaded, answered: Answered, rows: Sequence[FeatureRow]) -> None:
        """Let the rows of an answered request wait for their turn."""
        if len(self._rows) + len(rows) > BACKLOG_ROWS:
            self.left_out += len(rows)
            return
        for answer, row in zip(answered.answers, rows, strict=True):
            self._rows.append((loaded, answer["prediction_id"], row.values, answer["probability"]))

    def score(self) -> dict[str, object] | None:
        """Score a slice; the frame to log, None when nothing waits."""
        if not self._rows:
            return None
        loaded = self._rows[0][0]
        some: list[_Waiting] = []
        while self._rows and self._rows[0][0] is loaded and len(some) < SLICE_ROWS:
            some.append(self._rows.popleft())
        began = perf_counter()
        error = None
        scores: list[float] = []
        try:
            scores = loaded.scorer.score_rows([values if loaded.pick is None else loaded.pick(values) for _, _, values, _ in some])
        except Exception as failed:
            error = repr(failed)[:200]
        frame: dict[str, object] = {
            "kind": "shadow",
            "model": loaded.model,
            "model_version": loaded.version,
            "scorer_sha256": loaded.scorer_sha256,
            "assignment": loaded.assignment,
            "scored_at": iso(self._clock.now()),
            "took_us": round((perf_counter() - began) * 1e6, 1),
            "rows": [
                {"prediction_id": identifier, "probability": probability, "champion_probability": champions}
                for (_, identifier, _, champions), probability in zip(some, scores, strict=False)
            ],
        }
        return frame if error is None else frame | {"error": error}
