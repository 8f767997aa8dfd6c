"""The online table of the feature store: rows of timestamped components by key. A processor writes them, the service reads them.

A window that is stored as a finished mean goes stale when no event comes. So a row keeps the facts of its window, each with its second,
and the arithmetic is finished at the moment of the question.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from mlops_lab.events import Message


@dataclass(frozen=True, slots=True)
class RowView:
    """One kind of row.

    Attributes:
        name: Such as `origin_departures`.
        join_keys: What a row is about, in the order of `RowRef.key`.
        meaning: For people.
        window_s: How long before the moment of a question facts of it count; None for ever.
    """

    name: str
    join_keys: tuple[str, ...]
    meaning: str
    window_s: int | None


def components_of(view: str) -> str:
    """The one feature of a view as Feast sees it: a row's bytes. No two views call it the same: Feast would answer with another's."""
    return f"{view}_components"


class RowRef(NamedTuple):
    """Names one row. A tuple, since a request may ask for a thousand."""

    view: str
    key: tuple[str, ...]


class Progress(NamedTuple):
    """How far the stream had been taken in when rows were written.

    Attributes:
        offsets: By topic, the offset of each partition up to which facts are in the rows.
        watermark_s: Event time (Unix seconds) up to which facts are complete, but for those that are later than the bound; 0 at first.
        written_at_s: Wall time of the write, Unix seconds.
        epoch: Drawn anew by each processor that begins; a store that was emptied or put back shows another one or none.
    """

    offsets: Mapping[str, tuple[int, ...]]
    watermark_s: int
    written_at_s: float
    epoch: str


class Reading(NamedTuple):
    """What one round trip brought.

    Attributes:
        rows: In the order asked for, None where there is none.
        progress: The rows are at least as new as this; None for a store that nobody has written to.
        unusable: Rows that are there and are none of ours: left out, and counted here.
    """

    rows: Sequence[bytes | None]
    progress: Progress | None
    unusable: int = 0


class RowReader(Protocol):
    """How rows are read at request time. Kept by `on_redis.py` and `on_sqlite.py`, on the tables that Feast reads and writes too."""

    def read(self, wanted: Sequence[RowRef]) -> Reading:
        """The rows and the writer's progress, in one round trip with a deadline.

        Raises:
            FeatureStoreUnreachable: It does not answer in time, or did not before and is tried again aside.
        """
        ...

    def progress(self) -> Progress | None:
        """What the last writer had taken in; None for a store that nobody has written to. Raises FeatureStoreUnreachable."""
        ...


class RowWriter(Protocol):
    """How rows are written. Kept by `on_feast.py`, through a push source."""

    def write(self, rows: Mapping[RowRef, bytes], progress: Progress) -> None:
        """Put rows in the place of former ones, then say how far the stream is in. Again changes nothing.

        Raises:
            FeatureStoreUnreachable: Some rows may be written, the progress is not.
        """
        ...

    def progress(self) -> Progress | None:
        """See RowReader.progress."""
        ...


class ProgressKeeper(Protocol):
    """How a writer says how far the stream is in, beside the rows. Kept by `on_redis.py` and `on_sqlite.py`."""

    def read(self) -> Progress | None:
        """See RowReader.progress."""
        ...

    def write(self, said: Progress) -> None:
        """Put it in the place of the former one. Raises FeatureStoreUnreachable."""
        ...

    def close(self) -> None:
        """Let go of what is open; it is opened again when it is needed."""
        ...


class RowState(Protocol):
    """Rows as a pure function of the set of facts: any order and any repetition of the same facts give the same bytes."""

    @property
    def newest_s(self) -> int:
        """Event time of the newest fact, Unix seconds; 0 before the first."""
        ...

    def apply(self, messages: Iterable[Message]) -> None:
        """Take in facts. Raises KeyError, TypeError or ValueError for what is no fact of the use case; then nothing of it is in."""
        ...

    def changed(self) -> Mapping[RowRef, bytes]:
        """The rows that are not what they were at the last call."""
        ...

    def rows(self) -> Mapping[RowRef, bytes]:
        """All rows."""
        ...

    def refs(self) -> Iterable[RowRef]:
        """The names of all rows."""
        ...
