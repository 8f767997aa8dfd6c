"""Answers like the trained pipeline, from plain data and numpy alone. No scikit-learn, no pandas, no pickle."""

import math
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from mlops_lab.errors import FeaturesWrong
from mlops_lab.features.view import Kind, Value
from mlops_lab.scoring.forest import MAX_LEAVES, Forest
from mlops_lab.scoring.manifest import sha256
from mlops_lab.scoring.masks import mask_table
from mlops_lab.scoring.reading import read_forest

_CHUNK = 256
"""Rows evaluated at once: the running masks of 150 trees then fit a core's second-level cache."""

_CELLS = 250_000
"""Masks that `score_rows` gathers at once (1 MB): some 80 rows of 20 features and 150 trees, so that a core's cache holds them."""

_ONE = np.uint32(1)

_WORK_S = 0.0005
"""How long a gentle load works before it rests for as long."""


class Scorer:
    """An immutable model. Safe to share between threads.

    Semantics are those of scikit-learn's histogram gradient boosting on float64: a number goes left when value <= threshold;
    None, NaN, and categories not seen in training follow the split's direction for missing values.
    """

    def __init__(self, forest: Forest, digest: str, rest: Callable[[], None] = lambda: None) -> None:
        self.digest = digest
        """SHA-256 of the file it was read from."""
        self.features = forest.features
        """The model's input, in the order of every row."""
        self._baseline = forest.baseline
        table = mask_table(forest, rest)
        self._columns, self._masks, self._leaves = table.columns, table.masks, table.leaves
        self._first_leaf = np.arange(len(forest.trees), dtype=np.intp) * MAX_LEAVES
        self._codes = {i: forest.categories[f.name] for i, f in enumerate(forest.features) if f.kind is Kind.CATEGORY}
        numbers = [c for c in self._columns if c.thresholds is not None]
        categories = [c for c in self._columns if c.thresholds is None]
        self._numbers = tuple((c.feature, c.thresholds or (), c.first, c.missing) for c in numbers)
        self._names = tuple((c.feature, {n: c.first + k for n, k in self._codes[c.feature].items()}, c.missing) for c in categories)

    @classmethod
    def from_bytes(cls, content: bytes, rest: Callable[[], None] = lambda: None) -> "Scorer":
        """Read a scorer file. Check its signature first (`scoring.manifest.check`).

        Args:
            content: The file.
            rest: Called every millisecond or so, for other threads to have their turn.

        Raises:
            ScorerRefused: The file is malformed, oversized or not canonical.
        """
        return cls(read_forest(content, rest), sha256(content), rest)

    @classmethod
    def from_bytes_gently(cls, content: bytes) -> "Scorer":
        """The same beside requests: it takes twice the time, and holds the interpreter for a millisecond at a time.

        Python lets a waiting thread wait 5 ms for one that computes, at each of its turns, which is longer than any request takes.
        """
        worked_since = time.perf_counter()

        def rest() -> None:
            nonlocal worked_since
            if time.perf_counter() - worked_since > _WORK_S:
                time.sleep(_WORK_S)
                worked_since = time.perf_counter()

        return cls.from_bytes(content, rest)

    def encode(self, rows: Sequence[Sequence[Value]]) -> NDArray[np.float64]:
        """Turn rows of values into the numbers the trees see.

        Args:
            rows: Values in the order of `features`.

        Returns:
            Shape (rows, features): numbers as they are, categories as codes, NaN for None and unknown categories.

        Raises:
            FeaturesWrong: A row has the wrong length, or a number feature holds text.
        """
        encoded = np.empty((len(rows), len(self.features)))
        for row in rows:
            if len(row) != len(self.features):
                raise FeaturesWrong.count(len(row), len(self.features))
        for j, feature in enumerate(self.features):
            known = self._codes.get(j)
            if known is None:
                encoded[:, j] = [_number(row[j], feature.name) for row in rows]
            else:
                encoded[:, j] = [known.get(row[j], math.nan) if isinstance(row[j], str) else math.nan for row in rows]  # type: ignore[arg-type]
        return encoded

    def encode_columns(self, columns: Sequence[Sequence[Value] | NDArray[np.generic]]) -> NDArray[np.float64]:
        """The same as `encode`, for a whole table column by column: some twenty times faster from a thousand rows on.

        Args:
            columns: One per feature, in the order of `features`, of equal length; numbers as an array of floats.

        Raises:
            FeaturesWrong: There are not as many columns as features, or a number column is not one of floats.
        """
        if len(columns) != len(self.features):
            raise FeaturesWrong.count(len(columns), len(self.features))
        encoded = np.empty((len(columns[0]), len(columns)))
        for j, (feature, column) in enumerate(zip(self.features, columns, strict=True)):
            known = self._codes.get(j)
            if known is not None:
                encoded[:, j] = [known.get(value, math.nan) if isinstance(value, str) else math.nan for value in column]
            elif isinstance(column, np.ndarray) and column.dtype.kind == "f":
                encoded[:, j] = column
            else:
                raise FeaturesWrong.not_a_number(feature.name, f"a column of {getattr(column, 'dtype', type(column).__name__)}")
        return encoded

    def score(self, encoded: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probabilities of the positive class.

        Args:
            encoded: From `encode`, float64, shape (rows, features). A category code out of range counts as missing.

        Returns:
            float64, shape (rows,), each in [0, 1].
        """
        if encoded.ndim != 2 or encoded.shape[1] != len(self.features):
            raise FeaturesWrong.count(encoded.shape[-1] if encoded.ndim else 0, len(self.features))
        log_odds = np.empty(len(encoded))
        bins = self._bins(encoded)
        for start in range(0, len(encoded), _CHUNK):
            log_odds[start : start + _CHUNK] = self._sum_leaves(bins[:, start : start + _CHUNK])
        with np.errstate(over="ignore"):  # exp(800) is inf, and 1 / inf is the right answer
            return np.asarray(1.0 / (1.0 + np.exp(-log_odds)))

    def score_one(self, values: Sequence[Value]) -> float:
        """Probability of the positive class for one row of values: the fast path of a single request.

        Raises:
            FeaturesWrong: The row has the wrong length, or a number feature holds text.
        """
        bins: list[int] = []
        self._look_up(values, bins)
        alive = np.bitwise_and.reduce(self._masks.take(bins or (0,), axis=0))
        leaf = self._first_leaf + np.bitwise_count(alive - _ONE)  # one bit is left: the ones below it count its position
        return _probability(self._baseline + float(np.add.reduce(self._leaves.take(leaf))))

    def score_rows(self, rows: Sequence[Sequence[Value]]) -> list[float]:
        """What `score_one` answers for each row, to the bit, however rows are grouped; half its time a row at 64 rows.

        Raises:
            FeaturesWrong: A row has the wrong length, or a number feature holds text.
        """
        if len(rows) == 1:
            return [self.score_one(rows[0])]
        each = max(len(self._columns), 1)
        at_once = max(_CELLS // (each * len(self._first_leaf)), 1)
        answers: list[float] = []
        for start in range(0, len(rows), at_once):
            some = rows[start : start + at_once]
            bins: list[int] = []
            for values in some:
                self._look_up(values, bins)
            alive = np.bitwise_and.reduce(self._masks.take(bins or [0] * len(some), axis=0).reshape(len(some), each, -1), axis=1)
            leaf = self._first_leaf + np.bitwise_count(alive - _ONE)
            # Along the last axis numpy adds in the order in which it adds a single row, so a sum does not depend on its neighbours.
            baseline, sums = self._baseline, np.add.reduce(self._leaves.take(leaf), axis=1)
            answers += [_probability(baseline + log_odds) for log_odds in sums.tolist()]
        return answers

    def _look_up(self, values: Sequence[Value], bins: list[int]) -> None:
        """Append the row of the mask table of each used feature."""
        if len(values) != len(self.features):
            raise FeaturesWrong.count(len(values), len(self.features))
        push = bins.append
        try:
            for feature, thresholds, first, missing in self._numbers:
                value = values[feature]
                push(missing if value is None or value != value else first + bisect_left(thresholds, value))
        except TypeError as error:
            raise FeaturesWrong.not_a_number(self.features[feature].name, value) from error
        for feature, names, missing in self._names:
            push(names.get(values[feature], missing))  # type: ignore[arg-type]

    def _bins(self, encoded: NDArray[np.float64]) -> NDArray[np.intp]:
        """Rows of the mask table, shape (used features, rows); its first row where no feature is used."""
        bins = np.zeros((max(len(self._columns), 1), len(encoded)), dtype=np.intp)
        for k, column in enumerate(self._columns):
            values = encoded[:, column.feature]
            if column.thresholds is None:
                known = (values >= 0) & (values < column.missing - column.first) & (values == np.floor(values))
                bins[k] = np.where(known, column.first + np.where(known, values, 0.0).astype(np.intp), column.missing)
            else:
                found = column.first + np.searchsorted(np.asarray(column.thresholds), values, side="left")
                bins[k] = np.where(np.isnan(values), column.missing, found)
        return bins

    def _sum_leaves(self, bins: NDArray[np.intp]) -> NDArray[np.float64]:
        """Log-odds, shape (rows,), for bins of shape (used features, rows)."""
        alive = self._masks[bins[0]]
        for feature_bins in bins[1:]:
            alive &= self._masks[feature_bins]
        leaf = self._first_leaf + np.bitwise_count(alive - np.uint32(1))
        return np.asarray(self._baseline + self._leaves[leaf].sum(axis=1))


def _probability(log_odds: float) -> float:
    if log_odds >= 0:
        return 1.0 / (1.0 + math.exp(-log_odds))
    odds = math.exp(log_odds)
    return odds / (1.0 + odds)


def _number(value: Value, name: str) -> float:
    if value is None:
        return math.nan
    if isinstance(value, str):
        raise FeaturesWrong.not_a_number(name, value)
    return float(value)
