"""The last step of the feature store: rows and a question become features. What Feast's on-demand view runs; standard library only.

Feast hands over columns: per row view its bytes, and what the caller asks. A question is rebuilt from them and answered by the use case
itself, so that Feast and the service finish the same arithmetic in the same code.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any, NamedTuple, Protocol

from mlops_lab.features.port import OnlineFeatures
from mlops_lab.features.rows import Progress, Reading, RowReader, RowRef, RowView, components_of
from mlops_lab.features.view import Ask, Feature, Value

MOMENT_S = "moment_s"
"""The column of the question's moment, Unix seconds."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class AskedField(NamedTuple):
    """A field of a question that features are computed from, and that is no join key.

    Attributes:
        name: In `Ask.fields`.
        moment: Whether it is a moment, which travels in Unix seconds under its name with `_s`; otherwise a number or unknown.
    """

    name: str
    moment: bool = False

    @property
    def column(self) -> str:
        return f"{self.name}_s" if self.moment else self.name


class RowUseCase(Protocol):
    """What a feature store must know of a use case; part of `OnlineUseCase`. Made without arguments."""

    @property
    def model(self) -> str: ...

    @property
    def features(self) -> tuple[Feature, ...]: ...

    @property
    def row_views(self) -> tuple[RowView, ...]: ...

    @property
    def asked_fields(self) -> tuple[AskedField, ...]: ...

    def from_rows(self, reader: RowReader) -> OnlineFeatures: ...


def columns_of(use_case: RowUseCase, asks: Sequence[Ask]) -> dict[str, list[Any]]:
    """Questions as columns: the join keys of all views, the moment, the asked fields. An unknown key is the empty text."""
    columns: dict[str, list[Any]] = {key: [ask.fields.get(key) or "" for ask in asks] for key in join_keys(use_case.row_views)}
    columns[MOMENT_S] = [_second(ask.moment) for ask in asks]
    for field in use_case.asked_fields:
        values = [ask.fields.get(field.name) for ask in asks]
        columns[field.column] = [None if value is None else _second(value) for value in values] if field.moment else values
    return columns


def finished(use_case: RowUseCase, columns: Mapping[str, Sequence[Any]]) -> dict[str, list[Value]]:
    """The features of each row of columns: those of `columns_of`, and per view `components_of` it with bytes or None.

    Raises:
        KeyError: A column is missing.
    """
    keys = join_keys(use_case.row_views)
    asks, rows = [], dict[RowRef, bytes | None]()
    for at, second in enumerate(columns[MOMENT_S]):
        fields: dict[str, Any] = {key: columns[key][at] for key in keys}
        for field in use_case.asked_fields:
            value = columns[field.column][at]
            fields[field.name] = _EPOCH + timedelta(seconds=value) if field.moment and value is not None else value
        asks.append(Ask("", _EPOCH + timedelta(seconds=second), fields))
    found: list[tuple[Value, ...]] = []
    for at, ask in enumerate(asks):  # one by one: in history each question has rows of its own
        for view in use_case.row_views:
            rows[RowRef(view.name, tuple(ask.fields[key] for key in view.join_keys))] = columns[components_of(view.name)][at]
        found.append(use_case.from_rows(_Given(rows)).read(ask).values)
    return {feature.name: [values[place] for values in found] for place, feature in enumerate(use_case.features)}


def join_keys(views: Iterable[RowView]) -> tuple[str, ...]:
    """Each join key once, in order of its first use."""
    return tuple(dict.fromkeys(key for view in views for key in view.join_keys))


def place_of(use_case: RowUseCase) -> str:
    """Where the class of a use case is, such as `package.module:Class`."""
    return f"{type(use_case).__module__}:{type(use_case).__qualname__}"


def use_case_at(place: str) -> RowUseCase:
    """The use case whose class is at a place; see `place_of`."""
    module, _, name = place.partition(":")
    made: RowUseCase = getattr(import_module(module), name)()
    return made


class _Given:
    """Implements `RowReader` on the rows of one question."""

    def __init__(self, rows: Mapping[RowRef, bytes | None]) -> None:
        self._rows = rows

    def read(self, wanted: Sequence[RowRef]) -> Reading:
        return Reading([self._rows.get(ref) for ref in wanted], None)

    def progress(self) -> Progress | None:
        return None


def _second(moment: datetime) -> int:
    return int(moment.timestamp())
