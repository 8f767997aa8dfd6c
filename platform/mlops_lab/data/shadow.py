"""The table of shadow scores: what a version said about questions that another one answered."""

from mlops_lab.data.schema import Column, TableSchema

SHADOW_SCORES = "shadow_scores"

_SCORE = (
    Column("prediction_id", "text", nullable=False),
    Column("model", "text", nullable=False),
    Column("model_version", "integer", nullable=False),
    Column("scorer_sha256", "text", nullable=False),
    Column("assignment", "integer"),
    Column("scored_at", "moment", nullable=False),
    Column("probability", "number", nullable=False),
    Column("champion_probability", "number", nullable=False),
)
SCORE_COLUMNS = tuple(column.name for column in _SCORE)
"""`scored_at` is wall time; `champion_probability` is what was answered. The features are in `predictions`, under the same id."""


def shadow_scores_schema() -> TableSchema:
    """One row per scored question. Never answered, so no window, skill or training set reads it."""
    return TableSchema(SHADOW_SCORES, _SCORE)
