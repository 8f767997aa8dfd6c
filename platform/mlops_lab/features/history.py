"""The history of rows: what each row of the online table was at each moment. A training set then reads what a question would have."""

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from mlops_lab.events import Message
from mlops_lab.features.rows import RowRef, RowState


class RowAt(NamedTuple):
    """A row as it was from a moment on.

    Attributes:
        ref: Which row.
        at: Event time of the fact that made it so.
        components: Its bytes.
    """

    ref: RowRef
    at: datetime
    components: bytes


def history(facts: Iterable[Message], new_state: Callable[[], RowState]) -> Iterator[RowAt]:
    """The states of all rows, in order of event time; of a second only the last.

    Args:
        facts: In any order; the order of event time is what a platform with nothing late would have seen.
        new_state: Makes an empty fold.
    """
    state = new_state()
    second: int | None = None
    waiting: dict[RowRef, bytes] = {}
    for fact in sorted(facts, key=lambda fact: fact.at):
        at = int(fact.at.timestamp())
        if second is not None and at != second:
            yield from _each(waiting, second)
            waiting = {}
        second = at
        state.apply((fact,))
        waiting.update(state.changed())
    if second is not None:
        yield from _each(waiting, second)


def _each(rows: dict[RowRef, bytes], second: int) -> Iterator[RowAt]:
    at = datetime.fromtimestamp(second, UTC)
    return (RowAt(ref, at, components) for ref, components in rows.items())
