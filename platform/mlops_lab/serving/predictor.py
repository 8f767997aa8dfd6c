"""From validated asks to answers and the frames that have to be logged before them: the hot path. Nothing here knows of HTTP.

All requests that came in together are worked on together: one reading of features, one evaluation of the champion for all their rows.
"""

import logging
from collections.abc import Callable, Sequence
from datetime import datetime

from mlops_lab.clock import Clock
from mlops_lab.errors import NoChampion
from mlops_lab.features.policy import EnforcedPolicy
from mlops_lab.features.view import FeatureRow, Value
from mlops_lab.serving.answered import CHAMPION, Answered, Question, Read, answered
from mlops_lab.serving.loaded import Loaded, Slot, picked, share_of
from mlops_lab.serving.shadow import Shadow
from mlops_lab.serving.source import FeatureSource
from mlops_lab.serving.trial import on_trial

_log = logging.getLogger(__name__)

_WAITING = NoChampion("Still to be scored.", "this is never seen.")


def _never(request_id: str) -> bool:
    return False


class Predictor:
    """Answers with the line-up in the slot. Used from one thread."""

    def __init__(
        self,
        source: FeatureSource,
        policy: EnforcedPolicy,
        slot: Slot,
        clock: Clock,
        *,
        canary_fails: Callable[[str], bool] = _never,
    ) -> None:
        """Args:
        source: Where features come from.
        policy: What is done about those that are stale or absent.
        slot: Who answers.
        clock: Wall time.
        canary_fails: A fault on purpose: whether the canary is to fail at the request of this id.
        """
        self._source = source
        self._policy = policy
        self._slot = slot
        self._clock = clock
        self._canary_fails = canary_fails
        self.shadow = Shadow(clock)

    def answer(self, questions: Sequence[Question]) -> "list[Answered | Exception]":
        """Read features, score. Nothing is logged here.

        Returns:
            For each question its answers, or why it has none: NoChampion, FeaturesRefused, ModelError where the model's output is no
            probability, or whatever else went wrong with it alone.
        """
        lineup = self._slot.lineup
        if lineup is None:
            missing = NoChampion("No model is in place to answer with.", "train and promote a version: `lab train`, `lab promote`.")
            return [missing for _ in questions]
        now = self._clock.now()
        results: list[Answered | Exception] = []
        pooled: list[tuple[int, int]] = []  # question, number of rows
        pool: list[Sequence[Value]] = []
        champion = lineup.champion
        reads = self._read(questions)
        for i, (question, read) in enumerate(zip(questions, reads, strict=True)):
            try:
                if isinstance(read, Exception):
                    raise read
                dealt = lineup.canary is not None and share_of(lineup.canary.version, question.request_id) < lineup.canary_permille
                if dealt and lineup.canary is not None:
                    tried = on_trial(champion, lineup.canary, question.request_id, read.rows, self._canary_fails)
                    results.append(answered(tried.loaded, tried.variant, question, read, tried.probabilities, now, tried.trial))
                else:
                    pool += picked(champion, read.rows)
                    pooled.append((i, len(read.rows)))
                    results.append(_WAITING)
            except Exception as error:
                results.append(error)
        if pooled:
            self._score_pool(champion, questions, reads, pooled, pool, results, now)
        if lineup.shadow is not None:
            self._keep_for_shadow(lineup.shadow, lineup.shadow_permille, questions, reads, results)
        return results

    def _read(self, questions: Sequence[Question]) -> "list[Read | Exception]":
        """One reading for all questions; if that fails, each alone, so that it fails for itself."""
        rows: Sequence[FeatureRow] | None = None
        try:
            rows = self._source.read_many([ask for question in questions for ask in question.asks])
        except Exception as error:
            _log.warning("serving.read_one_by_one", extra={"requests": len(questions), "why": repr(error)[:200]})
        fresh_until = self._policy.fresh_until(self._source.watermark_s)
        found: list[Read | Exception] = []
        at = 0
        for question in questions:
            asks = question.asks
            try:
                mine = rows[at : at + len(asks)] if rows is not None else self._source.read_many(asks)
                found.append(Read(*self._policy.applied(asks, mine, fresh_until)))
            except Exception as error:
                found.append(error)
            at += len(asks)
        return found

    def _score_pool(
        self,
        champion: Loaded,
        questions: Sequence[Question],
        reads: "Sequence[Read | Exception]",
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
                read = reads[i]
                assert isinstance(read, Read)
                results[i] = answered(champion, CHAMPION, questions[i], read, mine, now)
            except Exception as error:
                results[i] = error
            at += count

    def _keep_for_shadow(
        self,
        shadow: Loaded,
        permille: int,
        questions: Sequence[Question],
        reads: "Sequence[Read | Exception]",
        results: "Sequence[Answered | Exception]",
    ) -> None:
        for question, read, result in zip(questions, reads, results, strict=True):
            if isinstance(result, Exception) or isinstance(read, Exception):
                continue
            if share_of(shadow.version, question.request_id) < permille:
                self.shadow.keep(shadow, result, read.rows)
