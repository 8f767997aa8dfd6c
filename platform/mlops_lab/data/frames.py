"""What the frames of the prediction log say: rows of the tables, and incidents. A frame in another form is refused, whole."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd

from mlops_lab.clock import from_iso
from mlops_lab.data.label import EVENT_COLUMNS, OUTCOMES, outcomes_schema
from mlops_lab.data.port import FeatureLike
from mlops_lab.data.prediction import ANSWER_COLUMNS, LATER_COLUMNS, PREDICTIONS, predictions_schema
from mlops_lab.data.schema import Column
from mlops_lab.data.shadow import SCORE_COLUMNS, SHADOW_SCORES, shadow_scores_schema
from mlops_lab.errors import SchemaRefused

Frame = Mapping[str, Any]
"""One JSON object of the prediction log; `kind` says what it is."""

KINDS = ("predictions", "feedback", "shadow", "incident")
KIND_OF = {SHADOW_SCORES: "shadow", OUTCOMES: "feedback", PREDICTIONS: "predictions"}
"""By table: the kind of the frames that have rows in it."""
_SHARED = ("request_id", "answered_at", "purpose", "model", "model_version", "scorer_sha256", "assignment", "variant")
_SCORED = ("model", "model_version", "scorer_sha256", "assignment", "scored_at")


class Reader:
    """Reads the frames of one use case into rows of `predictions`, `outcomes` and `shadow_scores`.

    Attributes:
        schemas: Of these three tables.
    """

    def __init__(self, features: Sequence[FeatureLike], outcome: Sequence[Column]) -> None:
        """Args:
        features: In the order of the log's feature lists.
        outcome: The use case's columns of an outcome; a key that an event lacks is a gap.
        """
        self._features = tuple(feature.name for feature in features)
        self._outcome = tuple(column.name for column in outcome)
        self.schemas = (shadow_scores_schema(), outcomes_schema(outcome), predictions_schema(features))
        self._rows_of = {SHADOW_SCORES: self.shadows_of, OUTCOMES: self.outcomes_of, PREDICTIONS: self.predictions_of}

    def rows_of(self, table: str, frames: Iterable[Frame]) -> pd.DataFrame:
        """The rows of a table in these frames; those of another kind have none. Raises SchemaRefused."""
        return self._rows_of[table](frames)

    def understood(self, frames: Sequence[Frame]) -> dict[str, pd.DataFrame]:
        """What the frames say, by table. Raises SchemaRefused where a frame is of no known kind, or says what no table can hold."""
        kinds = {kind_of(frame) for frame in frames}
        if strangers := sorted(kinds.difference(KINDS)):
            raise SchemaRefused(f"There is no kind '{strangers[0]}' in this release.", "ship it with the release that wrote it.")
        said: dict[str, pd.DataFrame] = {}
        schemas = {schema.name: schema for schema in self.schemas}
        for table, kind in KIND_OF.items():
            if kind in kinds:
                said[table] = self.rows_of(table, frames)
                schemas[table].rows(said[table])
        for frame in _of_kind(frames, "incident"):
            incident_of(frame)
        return said

    def predictions_of(self, frames: Iterable[Frame]) -> pd.DataFrame:
        """The rows of the table `predictions` in these frames: what was answered, by a champion or by a canary. Others have none."""
        answers: list[tuple[Any, ...]] = []
        features: list[Sequence[Any]] = []
        later: list[tuple[Any, ...]] = []
        for frame in _of_kind(frames, "predictions"):
            try:
                shared = tuple(frame[name] for name in _SHARED)
                for row in frame["rows"]:
                    if len(row["features"]) != len(self._features):
                        raise ValueError(f"{len(row['features'])} features instead of {len(self._features)}")
                    ages = json.dumps(row["ages_s"], sort_keys=True, separators=(",", ":"))
                    answers.append((row["prediction_id"], *shared, row["entity"], row["moment"], ages, row["probability"]))
                    features.append(row["features"])
                    later.append(tuple(row.get(name) for name in LATER_COLUMNS))
            except (KeyError, TypeError, ValueError) as error:
                raise _strange(frame, error) from error
        made = _columns(answers, ANSWER_COLUMNS, ("answered_at", "moment"))
        return pd.concat([made, _columns(features, self._features), _columns(later, LATER_COLUMNS)], axis=1)

    def outcomes_of(self, frames: Iterable[Frame]) -> pd.DataFrame:
        """The rows of the table `outcomes` in these frames; those that are no feedback have none."""
        events: list[tuple[Any, ...]] = []
        for frame in _of_kind(frames, "feedback"):
            try:
                for item in frame["items"]:
                    unknown = sorted(set(item["outcome"]) - set(self._outcome))
                    if unknown:
                        raise ValueError(f"the outcome has the unknown {unknown}")
                    said = (item["outcome"].get(name) for name in self._outcome)
                    events.append((item["event_id"], item["prediction_id"], item["revision"], item["at"], frame["received_at"], *said))
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise _strange(frame, error) from error
        return _columns(events, (*EVENT_COLUMNS, *self._outcome), ("at", "received_at"))

    def shadows_of(self, frames: Iterable[Frame]) -> pd.DataFrame:
        """The rows of the table `shadow_scores` in these frames; those that are no shadow's have none."""
        scores: list[tuple[Any, ...]] = []
        for frame in _of_kind(frames, "shadow"):
            try:
                shared = tuple(frame[name] for name in _SCORED)
                scores += [(row["prediction_id"], *shared, row["probability"], row["champion_probability"]) for row in frame["rows"]]
            except (KeyError, TypeError) as error:
                raise _strange(frame, error) from error
        return _columns(scores, SCORE_COLUMNS, ("scored_at",))


@dataclass(frozen=True, slots=True)
class Incident:
    """Something a replica has to tell that belongs into the audit trail. `at` is wall time; `digests` are texts by name."""

    at: datetime
    what: str
    subject: str
    why: str
    digests: Mapping[str, str]


def incident_of(frame: Frame) -> Incident:
    """Read a frame of kind `incident`. Raises SchemaRefused."""
    try:
        digests = {str(name): str(value) for name, value in frame.get("digests", {}).items()}
        return Incident(from_iso(frame["at"]), str(frame["what"]), str(frame["subject"]), str(frame["why"]), digests)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _strange(frame, error) from error


def _of_kind(frames: Iterable[Frame], kind: str) -> Iterator[Frame]:
    return (frame for frame in frames if frame["kind"] == kind)


def kind_of(frame: Frame) -> str:
    """What a frame says it is; `none` where it says nothing that could be a kind."""
    kind = frame.get("kind") if isinstance(frame, Mapping) else None
    return kind if isinstance(kind, str) and kind.isprintable() and 0 < len(kind) <= 40 else "none"


def _columns(rows: Sequence[Sequence[Any]], names: Sequence[str], moments: Sequence[str] = ()) -> pd.DataFrame:
    values = zip(*rows, strict=True) if rows else ([] for _ in names)
    frame = pd.DataFrame({name: list(column) for name, column in zip(names, values, strict=True)}, columns=list(names))
    for name in moments:
        try:
            frame[name] = pd.to_datetime(frame[name], utc=True, format="ISO8601").astype("datetime64[us, UTC]")
        except (ValueError, TypeError) as error:
            raise SchemaRefused(
                f"A frame of the prediction log has a '{name}' that is no moment: {error}.".split("\n", 1)[0], "it is set aside, whole."
            ) from error
    return frame


def _strange(frame: Frame, error: Exception) -> SchemaRefused:
    return SchemaRefused(
        f"A frame of the prediction log (keys {sorted(frame)}) is not in the known form: {error!r}.", "it is set aside, whole."
    )
