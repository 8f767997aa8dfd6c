"""From the prediction log into the tables: each frame has its effect once, whatever dies and however often it is read."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pandas as pd

from mlops_lab.data.label import EVENT_COLUMNS, OUTCOMES, outcomes_schema
from mlops_lab.data.port import FeatureLike, Tables
from mlops_lab.data.prediction import ANSWER_COLUMNS, PREDICTIONS, predictions_schema
from mlops_lab.data.schema import Column
from mlops_lab.errors import SchemaRefused

Frame = Mapping[str, Any]
"""One JSON object of the prediction log; `kind` is `predictions` or `feedback`."""

_SHARED = ("request_id", "answered_at", "purpose", "model", "model_version", "scorer_sha256", "assignment", "variant")
_OTHER_RELEASE = "the log was written by another release: ship it with that release, or move the segment away and say so in the record."
CHUNK = 5_000
"""Frames per append: few enough for memory, enough for a file that is worth reading."""


@dataclass(frozen=True, slots=True)
class Shipped:
    """What one call moved: rows appended per table, and the position up to which everything is in the tables."""

    predictions: int
    outcomes: int
    position: int


class Shipper:
    """Moves frames into the tables `predictions` and `outcomes`.

    The position of the last frame is each table's progress, written with the rows. A crash between the two tables leaves one
    ahead; the next call skips for each table what it has.
    """

    def __init__(self, tables: Tables, features: Sequence[FeatureLike], outcome: Sequence[Column]) -> None:
        """Declare the two tables.

        Args:
            tables: Where to.
            features: In the order of the log's feature lists.
            outcome: The use case's columns of an outcome; a key that an event lacks is a gap.
        """
        self._tables = tables
        self._features = tuple(feature.name for feature in features)
        self._outcome = tuple(column.name for column in outcome)
        tables.declare(predictions_schema(features), outcomes_schema(outcome))

    def position(self, replica: str) -> int:
        """Read the log of this replica from behind this position; 0 for its beginning."""
        return min(self._progress(replica).values())

    def ship(self, replica: str, frames: Iterable[tuple[int, Frame]]) -> Shipped:
        """Append everything the frames say.

        Args:
            replica: Whose log it is.
            frames: Position behind the frame (above 0, growing) and the frame, from `position(replica)` on.

        Raises:
            SchemaRefused: A frame is not of a known form. Frames before its chunk are in the tables.
            ProgressMoved: Another process ships the same log at the same time; nothing is doubled.
            StoreUnreachable: Call again later.
        """
        progress = self._progress(replica)
        moved = {PREDICTIONS: 0, OUTCOMES: 0}
        for chunk in _chunks(frames):
            last = chunk[-1][0]
            for table, rows_of in ((PREDICTIONS, self.predictions_of), (OUTCOMES, self.outcomes_of)):
                rows = rows_of(frame for position, frame in chunk if position > progress[table])
                if last > progress[table]:
                    self._tables.append(table, rows, f"ship:{replica}", last, after=progress[table])
                    progress[table] = last
                    moved[table] += len(rows)
        return Shipped(moved[PREDICTIONS], moved[OUTCOMES], min(progress.values()))

    def predictions_of(self, frames: Iterable[Frame]) -> pd.DataFrame:
        """The rows of the table `predictions` in these frames; frames of feedback have none."""
        answers: list[tuple[Any, ...]] = []
        features: list[Sequence[Any]] = []
        for frame in _of_kind(frames, "predictions"):
            try:
                shared = tuple(frame[name] for name in _SHARED)
                for row in frame["rows"]:
                    if len(row["features"]) != len(self._features):
                        raise ValueError(f"{len(row['features'])} features instead of {len(self._features)}")
                    ages = json.dumps(row["ages_s"], sort_keys=True, separators=(",", ":"))
                    answers.append((row["prediction_id"], *shared, row["entity"], row["moment"], ages, row["probability"]))
                    features.append(row["features"])
            except (KeyError, TypeError, ValueError) as error:
                raise _strange(frame, error) from error
        made = _columns(answers, ANSWER_COLUMNS, ("answered_at", "moment"))
        return pd.concat([made, _columns(features, self._features)], axis=1)

    def outcomes_of(self, frames: Iterable[Frame]) -> pd.DataFrame:
        """The rows of the table `outcomes` in these frames; frames of predictions have none."""
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

    def _progress(self, replica: str) -> dict[str, int]:
        return {table: self._tables.progress(table, f"ship:{replica}") or 0 for table in (PREDICTIONS, OUTCOMES)}


def _chunks(frames: Iterable[tuple[int, Frame]]) -> Iterator[list[tuple[int, Frame]]]:
    source = iter(frames)
    while chunk := list(islice(source, CHUNK)):
        yield chunk


def _of_kind(frames: Iterable[Frame], kind: str) -> Iterator[Frame]:
    for frame in frames:
        if frame.get("kind") not in ("predictions", "feedback"):
            raise _strange(frame, ValueError(f"kind {frame.get('kind')!r}"))
        if frame["kind"] == kind:
            yield frame


def _columns(rows: Sequence[Sequence[Any]], names: Sequence[str], moments: Sequence[str] = ()) -> pd.DataFrame:
    values = zip(*rows, strict=True) if rows else ([] for _ in names)
    frame = pd.DataFrame({name: list(column) for name, column in zip(names, values, strict=True)}, columns=list(names))
    for name in moments:
        try:
            frame[name] = pd.to_datetime(frame[name], utc=True, format="ISO8601").astype("datetime64[us, UTC]")
        except (ValueError, TypeError) as error:
            raise SchemaRefused(
                f"A frame of the prediction log has a '{name}' that is no moment: {error}.".split("\n", 1)[0], _OTHER_RELEASE
            ) from error
    return frame


def _strange(frame: Frame, error: Exception) -> SchemaRefused:
    return SchemaRefused(
        f"A frame of the prediction log (keys {sorted(frame)}) is not in the known form: {error!r}.",
        _OTHER_RELEASE,
    )
