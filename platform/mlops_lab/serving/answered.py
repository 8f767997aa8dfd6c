"""What one request for predictions asks, what it is answered, and the frame that has to be logged before it is answered."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypedDict

from mlops_lab.errors import ModelError
from mlops_lab.features import Ask
from mlops_lab.features.view import FeatureRow
from mlops_lab.serving.loaded import Loaded

CHAMPION, CANARY = "champion", "canary"


class Answer(TypedDict):
    """What a caller gets for one ask. A dictionary, because it goes to the encoder as it is."""

    prediction_id: str
    probability: float
    model_version: int
    variant: str
    feature_ages_s: dict[str, float | None]
    feature_state: str


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


class Read(NamedTuple):
    """The features of one question as they may be used, and what the stream was worth to each row (`features.policy.STATES`)."""

    rows: list[FeatureRow]
    states: list[str]


@dataclass(slots=True)
class Answered:
    """Answers in the order of the asks, all by one version, and the frame without which they must not be given.

    A frame of kind `predictions` holds `request_id model model_version scorer_sha256 assignment variant purpose answered_at rows`, and
    each row `prediction_id entity moment features ages_s feature_state probability`. Its features are the use case's, in the use case's
    order: of them the scorer reads the ones it was trained on, and a later recipe may want the others. A request that was dealt to the
    canary has a `trial` with what both versions made of the same rows.
    """

    answers: list[Answer]
    frame: dict[str, object]
    loaded: Loaded
    variant: str


def answered(
    loaded: Loaded,
    variant: str,
    question: Question,
    read: Read,
    probabilities: Sequence[float],
    now: datetime,
    trial: dict[str, object] | None = None,
) -> Answered:
    """Give each row its id, and write down what was scored. Raises ModelError where a score is not in [0, 1]."""
    token = os.urandom(12).hex()  # unique per request; the row's number makes it unique per row
    version = loaded.version
    answers: list[Answer] = []
    records: list[dict[str, Any]] = []
    for i, (ask, row, state, probability) in enumerate(zip(question.asks, read.rows, read.states, probabilities, strict=True)):
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
                "feature_state": state,
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
                "feature_state": state,
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
    if trial is not None:
        frame["trial"] = trial
    return Answered(answers, frame, loaded, variant)


def require_probabilities(loaded: Loaded, rows: Sequence[FeatureRow], found: Sequence[float]) -> None:
    """Raises ModelError where a score is not in [0, 1]."""
    for row, probability in zip(rows, found, strict=True):
        if not 0.0 <= probability <= 1.0:
            raise ModelError(
                f"Version {loaded.version} of {loaded.model} answered {probability} for {row.values}, which is no probability.",
                "roll back with `lab rollback`, then look at that version's training.",
            )
