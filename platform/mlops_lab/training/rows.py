"""The rows a model is fitted on, or measured on: features, labels, and where in event time each belongs."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlops_lab.errors import FeaturesWrong
from mlops_lab.features.view import Feature, Kind, Value


@dataclass(frozen=True, slots=True, eq=False)
class TrainingRows:
    """Labelled rows, column by column. All parts have the same length; slices are taken from `features`.

    Attributes:
        features: One column per feature of the recipe, by name; numbers as floats, categories as text, missing as None or NaN.
        labels: bool, shape (rows,).
        keys: str, shape (rows,); each key once. What makes a row itself: an entity, or a prediction id.
        moments: datetime64[us], shape (rows,), UTC: up to when facts were used. No label is taken from a row behind a cut.
    """

    features: pd.DataFrame
    labels: NDArray[np.bool_]
    keys: NDArray[np.str_]
    moments: NDArray[np.datetime64]

    def __post_init__(self) -> None:
        lengths = [len(self.features), len(self.labels), len(self.keys), len(self.moments)]
        if len(set(lengths)) != 1:
            raise FeaturesWrong(f"Training rows have parts of different length: {lengths}.", "build all parts from the same frame.")
        if self.labels.dtype != np.bool_ or self.keys.dtype.kind != "U" or self.moments.dtype != np.dtype("datetime64[us]"):
            found = f"labels {self.labels.dtype}, keys {self.keys.dtype}, moments {self.moments.dtype}"
            raise FeaturesWrong(f"Training rows have the wrong types: {found}.", "give bool, str and datetime64[us] in UTC.")
        if len(np.unique(self.keys)) != len(self.keys):
            raise FeaturesWrong("Training rows hold the same key twice, which would count a row double.", "drop duplicates before.")
        if np.isnat(self.moments).any():
            raise FeaturesWrong("Training rows hold a row without a moment.", "drop it: it cannot be kept apart from the future.")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def days(self) -> NDArray[np.datetime64]:
        """The UTC day of each row, datetime64[D]: the unit that intervals are drawn over."""
        return self.moments.astype("datetime64[D]")

    def digest(self) -> str:
        """SHA-256 of the content: keys, moments, labels and features. The order of rows and columns does not matter."""
        order = np.argsort(self.keys, kind="stable")
        content = hashlib.sha256()
        for name, part in self._parts(order):
            content.update(hashlib.sha256(name.encode()).digest())
            content.update(hashlib.sha256(part).digest())
        return content.hexdigest()

    def _parts(self, order: NDArray[np.intp]) -> Iterator[tuple[str, bytes]]:
        yield "keys", json.dumps(self.keys[order].tolist()).encode()
        yield "moments", self.moments[order].astype("<i8").tobytes()
        yield "labels", self.labels[order].astype("u1").tobytes()
        for name in sorted(self.features.columns):
            column = self.features[name].iloc[order]
            if pd.api.types.is_numeric_dtype(column):
                numbers = column.to_numpy(dtype="<f8", na_value=np.nan) + 0.0  # -0.0 becomes 0.0
                numbers[np.isnan(numbers)] = np.nan  # one bit pattern for all
                yield f"number {name}", numbers.tobytes()
            else:
                texts = column.astype(object)
                yield f"category {name}", json.dumps(texts.where(texts.notna(), None).tolist()).encode()

    def take(self, which: NDArray[np.bool_] | NDArray[np.intp]) -> "TrainingRows":
        """The rows of a mask or of positions, in that order."""
        at = np.flatnonzero(which) if which.dtype == np.bool_ else which
        return TrainingRows(self.features.iloc[at].reset_index(drop=True), self.labels[at], self.keys[at], self.moments[at])

    def before(self, at: datetime) -> "TrainingRows":
        """The rows whose moment lies before an aware moment."""
        return self.take(self.moments < as_moment(at))

    def since(self, at: datetime) -> "TrainingRows":
        """The rows whose moment is that aware moment or later."""
        return self.take(self.moments >= as_moment(at))

    def concat(self, *others: "TrainingRows") -> "TrainingRows":
        """These rows and the others'. A key that several parts hold is taken from the first of them (put what production saw first)."""
        parts = (self, *others)
        if any(set(part.features.columns) != set(self.features.columns) for part in others):
            raise FeaturesWrong("Training rows with different columns cannot be put together.", "build all parts with the same recipe.")
        frame = pd.concat([part.features[list(self.features.columns)] for part in parts], ignore_index=True)
        keys = np.concatenate([part.keys for part in parts])
        _, first = np.unique(keys, return_index=True)
        at = np.sort(first)
        labels = np.concatenate([part.labels for part in parts])
        moments = np.concatenate([part.moments for part in parts])
        return TrainingRows(frame.iloc[at].reset_index(drop=True), labels[at], keys[at], moments[at])


def as_moment(at: datetime) -> np.datetime64:
    """An aware datetime as datetime64[us] in UTC. Raises ValueError without a time zone."""
    if at.tzinfo is None:
        raise ValueError(f"{at!r} has no time zone: the platform keeps aware times only")
    return np.datetime64(at.astimezone(UTC).replace(tzinfo=None), "us")


def model_frame(frame: pd.DataFrame, features: Sequence[Feature]) -> pd.DataFrame:
    """The features of a frame in the model's order and in the model's types: float64, or text with NaN for missing.

    Raises:
        FeaturesWrong: A feature is not there, a number column holds text, or a category column holds something else than text.
    """
    columns: dict[str, pd.Series] = {}
    for feature in features:
        if feature.name not in frame.columns:
            raise FeaturesWrong(f"The rows have no column '{feature.name}'.", "build them with the use case's features.")
        column = frame[feature.name]
        if feature.kind is Kind.NUMBER:
            try:
                columns[feature.name] = column.astype("float64")
            except (TypeError, ValueError) as error:
                raise FeaturesWrong.not_a_number(feature.name, str(error)) from error
        else:
            texts = column.astype(object)
            known = texts[texts.notna()]
            strangers = known[~known.map(lambda value: isinstance(value, str)).astype(bool)]
            if len(strangers):
                stranger = strangers.iloc[0]
                raise FeaturesWrong(f"Category '{feature.name}' holds {stranger!r}, which is not text.", "give categories as text.")
            columns[feature.name] = texts.where(texts.notna(), np.nan)
    return pd.DataFrame(columns, index=frame.index)


def values_of(frame: pd.DataFrame, features: Sequence[Feature]) -> list[tuple[Value, ...]]:
    """The rows of a frame as the values that the scorer takes, in the model's order, None for missing."""
    columns = []
    for name in (feature.name for feature in features):
        column = model_frame(frame, [f for f in features if f.name == name])[name].astype(object)
        columns.append(cast(list[Value], column.where(column.notna(), None).tolist()))
    return list(zip(*columns, strict=True))
