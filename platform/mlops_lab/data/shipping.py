"""From the prediction log into the tables: each frame has its effect once, whatever dies and however often it is read."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pandas as pd

from mlops_lab.clock import from_iso
from mlops_lab.data.label import EVENT_COLUMNS, OUTCOMES, outcomes_schema
from mlops_lab.data.port import FeatureLike, Tables
from mlops_lab.data.prediction import ANSWER_COLUMNS, PREDICTIONS, predictions_schema
from mlops_lab.data.schema import Column, TableSchema
from mlops_lab.data.shadow import SCORE_COLUMNS, SHADOW_SCORES, shadow_scores_schema
from mlops_lab.errors import SchemaRefused

Frame = Mapping[str, Any]
"""One JSON object of the prediction log; `kind` says what it is."""

Placed = tuple[int, Frame]
"""The position behind a frame (above 0, growing) and the frame."""

KINDS = ("predictions", "feedback", "shadow", "incident")
SET_ASIDE = "frames_set_aside"
"""Frames that this release does not understand, whole. A release that does takes them up from here."""

_ASIDE = TableSchema(
    SET_ASIDE,
    (
        Column("replica", "text", nullable=False),
        Column("position", "integer", nullable=False),
        Column("kind", "text", nullable=False),
        Column("why", "text", nullable=False),
        Column("frame", "text", nullable=False),
    ),
)
_KIND_OF = {SHADOW_SCORES: "shadow", OUTCOMES: "feedback", PREDICTIONS: "predictions"}
_SHARED = ("request_id", "answered_at", "purpose", "model", "model_version", "scorer_sha256", "assignment", "variant")
_SCORED = ("model", "model_version", "scorer_sha256", "assignment", "scored_at")
CHUNK = 5_000
"""Frames per append: few enough for memory, enough for a file that is worth reading."""
CHUNK_ROWS = 50_000


@dataclass(frozen=True, slots=True)
class Shipped:
    """What one call moved: rows appended per table, frames set aside, and the position up to which everything is in the tables."""

    predictions: int
    outcomes: int
    position: int
    shadows: int = 0
    aside: int = 0


@dataclass(frozen=True, slots=True)
class Strange:
    """A frame that this release does not understand."""

    position: int
    kind: str
    why: str
    frame: str


@dataclass(frozen=True, slots=True)
class Chunk:
    """Neighbouring frames of one log.

    Attributes:
        frames: Those that are understood, in order.
        aside: Those that are not, in order.
        last: The position behind the last of both.
        rows: What the frames say, by table, where it was found out for all of them at once.
    """

    frames: Sequence[Placed]
    aside: Sequence[Strange]
    last: int
    rows: Mapping[str, pd.DataFrame] = field(default_factory=dict)


class Shipper:
    """Moves frames into the tables `predictions`, `outcomes` and `shadow_scores`, and what it does not understand into `frames_set_aside`.

    The position of the last frame is a table's progress, written with the rows. `predictions` is written last and always, so its
    progress is that of the log; a crash before it leaves other tables ahead, and the next call skips for each what it has.
    """

    def __init__(self, tables: Tables, features: Sequence[FeatureLike], outcome: Sequence[Column]) -> None:
        """Declare the tables.

        Args:
            tables: Where to.
            features: In the order of the log's feature lists.
            outcome: The use case's columns of an outcome; a key that an event lacks is a gap.
        """
        self._tables = tables
        self._features = tuple(feature.name for feature in features)
        self._outcome = tuple(column.name for column in outcome)
        schemas = (_ASIDE, shadow_scores_schema(), outcomes_schema(outcome), predictions_schema(features))
        self._schemas = {schema.name: schema for schema in schemas}
        self._rows_of = {SHADOW_SCORES: self.shadows_of, OUTCOMES: self.outcomes_of, PREDICTIONS: self.predictions_of}
        self.taken_up = False
        """Whether what an earlier release set aside was looked at; for whoever calls `take_up`."""
        tables.declare(*schemas)

    def position(self, replica: str) -> int:
        """Everything before this position of a replica's log is in the tables; 0 for its beginning."""
        return self._tables.progress(PREDICTIONS, f"ship:{replica}") or 0

    def ship(self, replica: str, frames: Iterable[Placed], then: Callable[[Chunk], None] | None = None) -> Shipped:
        """Append everything the frames say.

        Args:
            replica: Whose log it is.
            frames: In order, from `position(replica)` on or from before it.
            then: What follows for each chunk once it is in the tables. It may see a chunk again after a crash, cut elsewhere.

        Raises:
            ProgressMoved: Another process ships the same log at the same time; nothing is doubled.
            SchemaRefused: A table is not what this release declares.
            StoreUnreachable: Call again later.
        """
        at = self.position(replica)
        moved = dict.fromkeys((SHADOW_SCORES, OUTCOMES, PREDICTIONS), 0)
        aside = 0
        for placed in _chunks(frames):
            chunk = self._sifted(placed)
            if chunk.last > at:
                aside += self._set_aside(replica, chunk)
                for table in (SHADOW_SCORES, OUTCOMES):
                    moved[table] += self._append(replica, table, chunk)
                moved[PREDICTIONS] += self._append(replica, PREDICTIONS, chunk, at)
                at = chunk.last
            if then is not None:
                then(chunk)
        return Shipped(moved[PREDICTIONS], moved[OUTCOMES], at, moved[SHADOW_SCORES], aside)

    def take_up(self) -> dict[str, list[Placed]]:
        """Append what was set aside by a release that did not understand it, if this one does. Again changes nothing.

        Returns:
            The frames that were understood, by replica; those of earlier calls too.
        """
        if not self._tables.version(SET_ASIDE):
            return {}
        found: dict[str, list[Placed]] = {}
        rows = self._tables.read(SET_ASIDE).sort_values(["replica", "position"])
        for replica, position, text in rows[["replica", "position", "frame"]].itertuples(index=False, name=None):
            found.setdefault(replica, []).append((int(position), json.loads(text)))
        found = {replica: list(self._sifted(placed).frames) for replica, placed in found.items()}
        understood = [frame for placed in found.values() for _, frame in placed]
        for table, key in ((SHADOW_SCORES, "prediction_id"), (OUTCOMES, "event_id"), (PREDICTIONS, "prediction_id")):
            wanted = self._rows_of[table](understood)
            if wanted.empty:
                continue
            there = self._tables.read(table, filters=[(key, "in", list(wanted[key]))], columns=[key])[key]
            missing = wanted[~wanted[key].isin(there)].drop_duplicates(key)
            if not missing.empty:
                done = self._tables.progress(table, "taken-up") or 0
                self._tables.append(table, missing, "taken-up", done + 1, after=done)
        return {replica: placed for replica, placed in found.items() if placed}

    def predictions_of(self, frames: Iterable[Frame]) -> pd.DataFrame:
        """The rows of the table `predictions` in these frames: what was answered, by a champion or by a canary. Others have none."""
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

    def _append(self, replica: str, table: str, chunk: Chunk, progress: int | None = None) -> int:
        """Append a chunk's rows to a table. Without a progress that is known already, only if there are any."""
        frames = [(position, frame) for position, frame in chunk.frames if frame["kind"] == _KIND_OF[table]]
        if not frames and progress is None:
            return 0
        name = f"ship:{replica}"
        done = progress if progress is not None else self._tables.progress(table, name) or 0
        if table in chunk.rows and chunk.frames[0][0] > done:
            rows = chunk.rows[table]
        else:
            rows = self._rows_of[table](frame for position, frame in frames if position > done)
        if chunk.last > done:
            self._tables.append(table, rows, name, chunk.last, after=done)
        return len(rows)

    def _set_aside(self, replica: str, chunk: Chunk) -> int:
        if not chunk.aside:
            return 0
        name = f"ship:{replica}"
        done = self._tables.progress(SET_ASIDE, name) or 0
        new = [one for one in chunk.aside if one.position > done]
        if new:
            rows = pd.DataFrame([(replica, one.position, one.kind, one.why, one.frame) for one in new], columns=list(_ASIDE.names))
            self._tables.append(SET_ASIDE, rows, name, chunk.last, after=done)
        return len(new)

    def _sifted(self, placed: Sequence[Placed]) -> Chunk:
        """Tell what is understood from what is not: all at once, and by halves only where something is not."""
        last = placed[-1][0] if placed else 0
        try:
            rows = self._understood([frame for _, frame in placed])
        except SchemaRefused as error:
            if len(placed) == 1:
                return Chunk((), (_aside(*placed[0], error),), last)
            half = len(placed) // 2
            first, second = self._sifted(placed[:half]), self._sifted(placed[half:])
            return Chunk([*first.frames, *second.frames], [*first.aside, *second.aside], last)
        return Chunk(placed, (), last, rows)

    def _understood(self, frames: Sequence[Frame]) -> dict[str, pd.DataFrame]:
        """What the frames say, by table. Raises SchemaRefused where a frame is of no known kind, or says what no table can hold."""
        kinds = {_kind_of(frame) for frame in frames}
        if strangers := sorted(kinds.difference(KINDS)):
            raise SchemaRefused(f"There is no kind '{strangers[0]}' in this release.", "ship it with the release that wrote it.")
        said: dict[str, pd.DataFrame] = {}
        for table, kind in _KIND_OF.items():
            if kind in kinds:
                said[table] = self._rows_of[table](frames)
                self._schemas[table].rows(said[table])
        for frame in _of_kind(frames, "incident"):
            incident_of(frame)
        return said


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


def _chunks(frames: Iterable[Placed]) -> Iterator[list[Placed]]:
    chunk: list[Placed] = []
    rows = 0
    for position, frame in frames:
        chunk.append((position, frame))
        said = frame.get("rows", frame.get("items")) if isinstance(frame, Mapping) else None
        rows += len(said) if isinstance(said, list) else 1
        if len(chunk) >= CHUNK or rows >= CHUNK_ROWS:
            yield chunk
            chunk, rows = [], 0
    if chunk:
        yield chunk


def _of_kind(frames: Iterable[Frame], kind: str) -> Iterator[Frame]:
    return (frame for frame in frames if frame["kind"] == kind)


def _kind_of(frame: Frame) -> str:
    """What a frame says it is; `none` where it says nothing that could be a kind."""
    kind = frame.get("kind") if isinstance(frame, Mapping) else None
    return kind if isinstance(kind, str) and kind.isprintable() and 0 < len(kind) <= 40 else "none"


def _aside(position: int, frame: Frame, error: SchemaRefused) -> Strange:
    return Strange(position, _kind_of(frame), error.what[:500], json.dumps(frame, separators=(",", ":")))


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
