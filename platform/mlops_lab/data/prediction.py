"""The table of predictions: what was asked, what the model saw, what it answered."""

from collections.abc import Iterable

from mlops_lab.data.port import FeatureLike
from mlops_lab.data.schema import Column, TableSchema

PREDICTIONS = "predictions"
CHAMPION, CANARY = "champion", "canary"
"""Variants: as what the version answered. Each row is the answer that was given, so a question has one row, whoever answered it."""

_ANSWER = (
    Column("prediction_id", "text", nullable=False),
    Column("request_id", "text", nullable=False),
    Column("answered_at", "moment", nullable=False),
    Column("purpose", "text", nullable=False),
    Column("model", "text", nullable=False),
    Column("model_version", "integer", nullable=False),
    Column("scorer_sha256", "text", nullable=False),
    Column("assignment", "integer"),
    Column("variant", "text", nullable=False),
    Column("entity", "text", nullable=False),
    Column("moment", "moment", nullable=False),
    Column("ages_s", "text", nullable=False),
    Column("probability", "number", nullable=False),
)
ANSWER_COLUMNS = tuple(column.name for column in _ANSWER)
"""The columns before the features. `ages_s` is a JSON object, `answered_at` wall time, `moment` event time."""

_LATER = (Column("feature_state", "text"),)
LATER_COLUMNS = tuple(column.name for column in _LATER)
"""Those behind the features, of later releases: null in rows of an earlier one. `feature_state`: fresh, stale or absent."""

RANDOM_COLUMNS = ("prediction_id", "request_id", "answered_at")
"""What differs between two runs over the same data, so no content digest covers it."""


def predictions_schema(features: Iterable[FeatureLike]) -> TableSchema:
    """One row per answered item: the answer, then the features as scored, numbers as float64 and categories as text, then `LATER_COLUMNS`.

    Raises SchemaRefused where a feature has the name of an answer's column.
    """
    scored = tuple(Column(feature.name, "number" if feature.kind == "number" else "text") for feature in features)
    return TableSchema(PREDICTIONS, _ANSWER + scored + _LATER)
