"""From the prediction log into the tables: each frame has its effect once, whatever dies and however often it is read."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from mlops_lab.data.frames import KIND_OF, Frame, Reader, kind_of
from mlops_lab.data.label import OUTCOMES
from mlops_lab.data.port import FeatureLike, Tables
from mlops_lab.data.prediction import PREDICTIONS
from mlops_lab.data.schema import Column, TableSchema
from mlops_lab.data.shadow import SHADOW_SCORES
from mlops_lab.errors import SchemaRefused

Placed = tuple[int, Frame]
"""The position behind a frame (above 0, growing) and the frame."""

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
        self._reader = Reader(features, outcome)
        self.taken_up = False
        """Whether what an earlier release set aside was looked at; for whoever calls `take_up`."""
        tables.declare(_ASIDE, *self._reader.schemas)

    def position(self, log: str) -> int:
        """Everything before this position of a log is in the tables; 0 for its beginning."""
        return self._tables.progress(PREDICTIONS, f"ship:{log}") or 0

    def ship(self, log: str, frames: Iterable[Placed], then: Callable[[Chunk], None] | None = None) -> Shipped:
        """Append everything the frames say.

        Args:
            log: Its name: of the replica, and of the log, since a replica whose disk is lost begins another.
            frames: In order, from `position(log)` on or from before it.
            then: What follows for each chunk once it is in the tables. It may see a chunk again after a crash, cut elsewhere.

        Raises:
            ProgressMoved: Another process ships the same log at the same time; nothing is doubled.
            SchemaRefused: A table is not what this release declares.
            StoreUnreachable: Call again later.
        """
        at = self.position(log)
        moved = dict.fromkeys((SHADOW_SCORES, OUTCOMES, PREDICTIONS), 0)
        aside = 0
        for placed in _chunks(frames):
            chunk = self._sifted(placed)
            if chunk.last > at:
                aside += self._set_aside(log, chunk)
                for table in (SHADOW_SCORES, OUTCOMES):
                    moved[table] += self._append(log, table, chunk)
                moved[PREDICTIONS] += self._append(log, PREDICTIONS, chunk, at)
                at = chunk.last
            if then is not None:
                then(chunk)
        return Shipped(moved[PREDICTIONS], moved[OUTCOMES], at, moved[SHADOW_SCORES], aside)

    def take_up(self) -> dict[str, list[Placed]]:
        """Append what was set aside by a release that did not understand it, if this one does. Again changes nothing.

        Returns:
            The frames that were understood, by log; those of earlier calls too.
        """
        if not self._tables.version(SET_ASIDE):
            return {}
        found: dict[str, list[Placed]] = {}
        rows = self._tables.read(SET_ASIDE).sort_values(["replica", "position"])
        for log, position, text in rows[["replica", "position", "frame"]].itertuples(index=False, name=None):
            found.setdefault(log, []).append((int(position), json.loads(text)))
        found = {log: list(self._sifted(placed).frames) for log, placed in found.items()}
        understood = [frame for placed in found.values() for _, frame in placed]
        for table, key in ((SHADOW_SCORES, "prediction_id"), (OUTCOMES, "event_id"), (PREDICTIONS, "prediction_id")):
            wanted = self._reader.rows_of(table, understood)
            if wanted.empty:
                continue
            there = self._tables.read(table, filters=[(key, "in", list(wanted[key]))], columns=[key])[key]
            missing = wanted[~wanted[key].isin(there)].drop_duplicates(key)
            if not missing.empty:
                done = self._tables.progress(table, "taken-up") or 0
                self._tables.append(table, missing, "taken-up", done + 1, after=done)
        return {log: placed for log, placed in found.items() if placed}

    def _append(self, log: str, table: str, chunk: Chunk, progress: int | None = None) -> int:
        """Append a chunk's rows to a table. Without a progress that is known already, only if there are any."""
        frames = [(position, frame) for position, frame in chunk.frames if frame["kind"] == KIND_OF[table]]
        if not frames and progress is None:
            return 0
        name = f"ship:{log}"
        done = progress if progress is not None else self._tables.progress(table, name) or 0
        if table in chunk.rows and chunk.frames[0][0] > done:
            rows = chunk.rows[table]
        else:
            rows = self._reader.rows_of(table, (frame for position, frame in frames if position > done))
        if chunk.last > done:
            self._tables.append(table, rows, name, chunk.last, after=done)
        return len(rows)

    def _set_aside(self, log: str, chunk: Chunk) -> int:
        if not chunk.aside:
            return 0
        name = f"ship:{log}"
        done = self._tables.progress(SET_ASIDE, name) or 0
        new = [one for one in chunk.aside if one.position > done]
        if new:
            rows = pd.DataFrame([(log, one.position, one.kind, one.why, one.frame) for one in new], columns=list(_ASIDE.names))
            self._tables.append(SET_ASIDE, rows, name, chunk.last, after=done)
        return len(new)

    def _sifted(self, placed: Sequence[Placed]) -> Chunk:
        """Tell what is understood from what is not: all at once, and by halves only where something is not."""
        last = placed[-1][0] if placed else 0
        try:
            rows = self._reader.understood([frame for _, frame in placed])
        except SchemaRefused as error:
            if len(placed) == 1:
                return Chunk((), (_aside(*placed[0], error),), last)
            half = len(placed) // 2
            first, second = self._sifted(placed[:half]), self._sifted(placed[half:])
            return Chunk([*first.frames, *second.frames], [*first.aside, *second.aside], last)
        return Chunk(placed, (), last, rows)


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


def _aside(position: int, frame: Frame, error: SchemaRefused) -> Strange:
    return Strange(position, kind_of(frame), error.what[:500], json.dumps(frame, separators=(",", ":")))
