"""From validated asks to answers and the frames that have to be logged before them: the hot path. Nothing here knows of HTTP.

All requests that came in together are worked on together: one look at the bus, one evaluation of the champion for all their rows.
"""

import logging
from collections.abc import Callable, Sequence
from datetime import datetime

from mlops_lab.clock import Clock
from mlops_lab.errors import NoChampion
from mlops_lab.features import OnlineFeatures
from mlops_lab.features.view import FeatureRow, Value
from mlops_lab.serving.answered import CHAMPION, Answered, Question, answered
from mlops_lab.serving.facts import FactStream
from mlops_lab.serving.loaded import Loaded, Slot, picked, share_of
from mlops_lab.serving.shadow import Shadow
from mlops_lab.serving.trial import on_trial

_log = logging.getLogger(__name__)

_WAITING = NoChampion("Still to be scored.", "this is never seen.")


def _never(request_id: str) -> bool:
    return False


class Predictor:
    """Answers with the line-up in the slot. Used from one thread."""

    def __init__(
        self, online: OnlineFeatures, facts: FactStream, slot: Slot, clock: Clock, *, canary_fails: Callable[[str], bool] = _never
    ) -> None:
        """Args:
        online: The feature state.
        facts: Brings it up to date.
        slot: Who answers.
        clock: Wall time.
        canary_fails: A fault on purpose: whether the canary is to fail at the request of this id.
        """
        self._online = online
        self._facts = facts
        self._slot = slot
        self._clock = clock
        self._canary_fails = canary_fails
        self.shadow = Shadow(clock)

    def answer(self, questions: Sequence[Question]) -> "list[Answered | Exception]":
        """Take in new facts, read features, score. Nothing is logged here.

        Returns:
            For each question its answers, or why it has none: NoChampion, ModelError where the model's output is no probability, or
            whatever else went wrong with it alone.
        """
        lineup = self._slot.lineup
        if lineup is None:
            missing = NoChampion("No model is in place to answer with.", "train and promote a version: `lab train`, `lab promote`.")
            return [missing for _ in questions]
        self._facts.catch_up()
        now = self._clock.now()
        results: list[Answered | Exception] = []
        pooled: list[tuple[int, int]] = []  # question, number of rows
        pool: list[Sequence[Value]] = []
        read: list[list[FeatureRow]] = []
        champion = lineup.champion
        for i, question in enumerate(questions):
            rows: list[FeatureRow] = []
            try:
                rows = list(map(self._online.read, question.asks))
                dealt = lineup.canary is not None and share_of(lineup.canary.version, question.request_id) < lineup.canary_permille
                if dealt and lineup.canary is not None:
                    tried = on_trial(champion, lineup.canary, question.request_id, rows, self._canary_fails)
                    results.append(answered(tried.loaded, tried.variant, question, rows, tried.probabilities, now, tried.trial))
                else:
                    pool += picked(champion, rows)
                    pooled.append((i, len(rows)))
                    results.append(_WAITING)
            except Exception as error:
                results.append(error)
            read.append(rows)
        if pooled:
            self._score_pool(champion, questions, read, pooled, pool, results, now)
        if lineup.shadow is not None:
            self._keep_for_shadow(lineup.shadow, lineup.shadow_permille, questions, read, results)
        return results

    def _score_pool(
        self,
        champion: Loaded,
        questions: Sequence[Question],
        read: Sequence[list[FeatureRow]],
        pooled: Sequence[tuple[int, int]],
        pool: Sequence[Sequence[Value]],
        results: "list[Answered | Exception]",
        now: datetime,
    ) -> None:
        """Score the rows of many requests at once; if that fails, each request alone, so that it fails for itself."""
        try:
            found: list[float] | None = champion.scorer.score_rows(pool)
        except Exception as error:
            _log.warning("serving.scored_one_by_one", extra={"requests": len(pooled), "why": repr(error)[:200]})
            found = None
        at = 0
        for i, count in pooled:
            try:
                mine = found[at : at + count] if found is not None else champion.scorer.score_rows(pool[at : at + count])
                results[i] = answered(champion, CHAMPION, questions[i], read[i], mine, now)
            except Exception as error:
                results[i] = error
            at += count

    def _keep_for_shadow(
        self,
        shadow: Loaded,
        permille: int,
        questions: Sequence[Question],
        read: Sequence[list[FeatureRow]],
        results: "Sequence[Answered | Exception]",
    ) -> None:
        for question, rows, result in zip(questions, read, results, strict=True):
            if not isinstance(result, Exception) and share_of(shadow.version, question.request_id) < permille:
                self.shadow.keep(shadow, result, rows)
