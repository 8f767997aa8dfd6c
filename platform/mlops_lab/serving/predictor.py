"""From validated asks to answers and the frames that have to be logged before them: the hot path. Nothing here knows of HTTP.

All requests that came in together are worked on together: one look at the bus, one evaluation of the champion for all their rows.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from time import perf_counter
from typing import Any, TypedDict

from mlops_lab.clock import Clock, iso
from mlops_lab.errors import ModelError, NoChampion
from mlops_lab.features import Ask, OnlineFeatures
from mlops_lab.features.view import FeatureRow, Value
from mlops_lab.serving.facts import FactStream
from mlops_lab.serving.loaded import LineUp, Loaded, Slot, share_of

CHAMPION, CANARY = "champion", "canary"
SHADOW_BACKLOG = 4096
"""Requests that may wait for the shadow; what comes on top is left out and counted: the shadow must not slow an answer."""

_TIMED_TWICE = 32
"""Up to so many rows the processor's cache decides how long scoring takes, see `_on_trial`."""
_NO_TROUBLE: Callable[[str], bool] = lambda request_id: False  # noqa: E731


class Answer(TypedDict):
    """What a caller gets for one ask. A dictionary, because it goes to the encoder as it is."""

    prediction_id: str
    probability: float
    model_version: int
    variant: str
    feature_ages_s: dict[str, float | None]


@dataclass(slots=True)
class Question:
    """One request for predictions.

    Attributes:
        asks: At least one.
        request_id: Goes into the log; the same id again is another request.
        purpose: `live` or `probe`.
        single: The body was one item, and so is the reply's.
        noted: Further fields of its frame, such as the trace it belongs to.
    """

    asks: Sequence[Ask]
    request_id: str
    purpose: str = "live"
    single: bool = False
    noted: dict[str, object] | None = None


@dataclass(slots=True)
class Answered:
    """Answers in the order of the asks, all by one version, and the frame without which they must not be given.

    A frame of kind `predictions` holds `request_id model model_version scorer_sha256 assignment variant purpose answered_at rows`, and
    each row `prediction_id entity moment features ages_s probability`. Its features are the use case's, in the use case's order: of
    them the scorer reads the ones it was trained on, and a later recipe may want the others. A request that was dealt to the canary
    has a `trial` with what both versions made of the same rows.
    """

    answers: list[Answer]
    frame: dict[str, object]
    loaded: Loaded
    variant: str
    trial: dict[str, object] | None = None


class Predictor:
    """Answers with the line-up in the slot. Used from one thread."""

    def __init__(
        self, online: OnlineFeatures, facts: FactStream, slot: Slot, clock: Clock, *, canary_fails: Callable[[str], bool] = _NO_TROUBLE
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
        self._shadowed: deque[tuple[Loaded, list[tuple[str, tuple[Value, ...], float]]]] = deque()
        self.shadow_left_out = 0

    @property
    def shadow_waits(self) -> bool:
        """Whether there is something for `score_shadow` to do."""
        return bool(self._shadowed)

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
                if dealt:
                    results.append(self._on_trial(lineup, question, rows, now))
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
            self._keep_for_shadow(lineup, lineup.shadow, questions, read, results)
        return results

    def score_shadow(self, rows: int = 64) -> list[dict[str, object]]:
        """Score up to about so many rows that wait for the shadow; the frames to log. Called when nobody waits for an answer."""
        frames: list[dict[str, object]] = []
        while self._shadowed and rows > 0:
            shadow, kept = self._shadowed.popleft()
            while self._shadowed and self._shadowed[0][0] is shadow and len(kept) < rows:
                kept = kept + self._shadowed.popleft()[1]
            rows -= len(kept)
            began = perf_counter()
            try:
                found = shadow.scorer.score_rows([values if shadow.pick is None else shadow.pick(values) for _, values, _ in kept])
            except Exception as error:
                frames.append(self._shadow_frame(shadow, began, error=repr(error)[:200]))
                continue
            scores = [
                {"prediction_id": identifier, "probability": probability, "champion_probability": champions}
                for (identifier, _, champions), probability in zip(kept, found, strict=True)
            ]
            frames.append(self._shadow_frame(shadow, began, rows=scores))
        return frames

    def _shadow_frame(self, shadow: Loaded, began: float, **found: object) -> dict[str, object]:
        return {
            "kind": "shadow",
            "model": shadow.model,
            "model_version": shadow.version,
            "scorer_sha256": shadow.scorer_sha256,
            "assignment": shadow.assignment,
            "scored_at": iso(self._clock.now()),
            "took_us": round((perf_counter() - began) * 1e6, 1),
            "rows": [],
        } | found

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
        except Exception:
            found = None
        at = 0
        for i, count in pooled:
            try:
                mine = found[at : at + count] if found is not None else champion.scorer.score_rows(pool[at : at + count])
                results[i] = _answered(champion, CHAMPION, questions[i], read[i], mine, now)
            except Exception as error:
                results[i] = error
            at += count

    def _on_trial(self, lineup: LineUp, question: Question, rows: Sequence[FeatureRow], now: datetime) -> Answered:
        """Score with champion and canary; the canary's answers are given unless it fails. Who comes first alternates by request: the
        second finds the rows in the processor's cache, which must not look like speed."""
        canary = lineup.canary
        assert canary is not None
        champion = lineup.champion
        order = (canary, champion) if share_of(champion.version, question.request_id) % 2 else (champion, canary)
        took: dict[str, float | None] = {}
        scores: dict[str, list[float]] = {}
        error = None
        for loaded in order:
            role = CANARY if loaded is canary else CHAMPION
            began = perf_counter()
            try:
                if role == CANARY and self._canary_fails(question.request_id):
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
        answered = _answered(loaded, variant, question, rows, scores[variant], now)
        answered.frame["trial"] = answered.trial = trial
        return answered

    def _keep_for_shadow(
        self,
        lineup: LineUp,
        shadow: Loaded,
        questions: Sequence[Question],
        read: Sequence[list[FeatureRow]],
        results: "Sequence[Answered | Exception]",
    ) -> None:
        for question, rows, result in zip(questions, read, results, strict=True):
            if isinstance(result, Exception) or share_of(shadow.version, question.request_id) >= lineup.shadow_permille:
                continue
            if len(self._shadowed) >= SHADOW_BACKLOG:
                self.shadow_left_out += len(rows)
                continue
            kept = [(a["prediction_id"], row.values, a["probability"]) for a, row in zip(result.answers, rows, strict=True)]
            self._shadowed.append((shadow, kept))


_WAITING = NoChampion("Still to be scored.", "this is never seen.")


def picked(loaded: Loaded, rows: Iterable[FeatureRow]) -> list[Sequence[Value]]:
    """Rows of the use case's features as this model's scorer wants them."""
    pick = loaded.pick
    return [row.values for row in rows] if pick is None else [pick(row.values) for row in rows]


def require_probabilities(loaded: Loaded, rows: Sequence[FeatureRow], found: Sequence[float]) -> None:
    """Raises ModelError where a score is not in [0, 1]."""
    for row, probability in zip(rows, found, strict=True):
        if not 0.0 <= probability <= 1.0:
            raise ModelError(
                f"Version {loaded.version} of {loaded.model} answered {probability} for {row.values}, which is no probability.",
                "roll back with `lab rollback`, then look at that version's training.",
            )


def _answered(
    loaded: Loaded, variant: str, question: Question, rows: Sequence[FeatureRow], probabilities: Sequence[float], now: datetime
) -> Answered:
    token = os.urandom(12).hex()  # unique per request; the row's number makes it unique per row
    version = loaded.version
    answers: list[Answer] = []
    records: list[dict[str, Any]] = []
    for i, (ask, row, probability) in enumerate(zip(question.asks, rows, probabilities, strict=True)):
        if not 0.0 <= probability <= 1.0:
            require_probabilities(loaded, [row], [probability])
        identifier = f"{token}{i:04x}"
        ages = row.ages_s if type(row.ages_s) is dict else dict(row.ages_s)
        records.append(
            {
                "prediction_id": identifier,
                "entity": ask.entity,
                "moment": ask.moment if ask.moment.tzinfo is UTC else ask.moment.astimezone(UTC),
                "features": row.values,
                "ages_s": ages,
                "probability": probability,
            }
        )
        answers.append(
            {
                "prediction_id": identifier,
                "probability": probability,
                "model_version": version,
                "variant": variant,
                "feature_ages_s": ages,
            }
        )
    frame: dict[str, object] = {
        "kind": "predictions",
        "request_id": question.request_id,
        "model": loaded.model,
        "model_version": version,
        "scorer_sha256": loaded.scorer_sha256,
        "assignment": loaded.assignment,
        "variant": variant,
        "purpose": question.purpose,
        "answered_at": now,
        "rows": records,
    }
    if question.noted:
        frame.update(question.noted)
    return Answered(answers, frame, loaded, variant)
