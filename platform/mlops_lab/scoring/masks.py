"""Trees turned into tables of bit masks, so that a forest is evaluated without walking it (after QuickScorer, Lucchese et al. 2015).

The leaves of a tree are bits, the leftmost is bit 0. All values of one feature that answer every split alike share a *bin*: one bin
per gap between the thresholds in use (or per category code), and one for missing. For each bin and tree a mask says which leaves
stay reachable; the AND over all features leaves one bit, the leaf that walking the tree would have reached.
"""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlops_lab.errors import ScorerRefused
from mlops_lab.features.view import Kind
from mlops_lab.scoring.forest import MAX_LEAVES, Forest, Split, Tree

MAX_CELLS = 4_000_000
"""Bins times trees: 16 MB of masks, and as much again while the table is made. 150 trees need some 400,000."""


@dataclass(frozen=True, slots=True)
class Column:
    """Where one used feature's bins lie.

    Attributes:
        feature: Index of the feature.
        first: Row of the first bin in the mask table.
        missing: Row of the bin for missing values and unknown categories, the feature's last.
        thresholds: Ascending; a number's bin is the count of thresholds below it. None for a category, whose bin is its code.
    """

    feature: int
    first: int
    missing: int
    thresholds: tuple[float, ...] | None


@dataclass(frozen=True, slots=True)
class MaskTable:
    """A forest, ready to evaluate.

    Attributes:
        columns: Features that some split asks about; others cannot change the answer.
        masks: uint32, shape (bins of all columns, trees); one row of single bits where no tree has a split.
        leaves: Leaf values in log-odds, float64, shape (trees * 32,); leaf bit b of tree t is at t * 32 + b.
    """

    columns: tuple[Column, ...]
    masks: NDArray[np.uint32]
    leaves: NDArray[np.float64]


def mask_table(forest: Forest, rest: Callable[[], None] = lambda: None) -> MaskTable:
    """Build the table.

    Args:
        forest: The model.
        rest: Called after each tree, for other threads to have their turn.

    Raises:
        ScorerRefused: It would need more than MAX_CELLS cells, or a tree has too many leaves.
    """
    columns = _columns(forest, rest)
    bins = columns[-1].missing + 1 if columns else 0
    if bins * len(forest.trees) > MAX_CELLS:
        raise ScorerRefused(
            f"The scorer needs {bins} x {len(forest.trees)} mask cells, at most {MAX_CELLS} are allowed.",
            "train with fewer rounds or fewer leaves.",
        )
    masks = np.empty((len(forest.trees), max(bins, 1)), dtype=np.uint32)
    leaves = np.zeros((len(forest.trees), MAX_LEAVES))
    by_feature = {column.feature: column for column in columns}
    for t, tree in enumerate(forest.trees):
        below, values = _leaf_bits(tree)
        leaves[t, : len(values)] = values
        masks[t] = below[0]
        for node in tree:
            if isinstance(node, Split):
                column = by_feature[node.feature]
                _narrow(
                    masks[t, column.first : column.missing + 1], node, column, ~np.uint32(below[node.right]), ~np.uint32(below[node.left])
                )
        rest()
    return MaskTable(columns, np.ascontiguousarray(masks.T), leaves.reshape(-1))


def _columns(forest: Forest, rest: Callable[[], None]) -> tuple[Column, ...]:
    used: dict[int, set[float]] = {}
    for tree in forest.trees:
        for node in tree:
            if isinstance(node, Split):
                used.setdefault(node.feature, set()).update(() if node.threshold is None else (node.threshold,))
        rest()
    columns, first = [], 0
    for feature in sorted(used):
        described = forest.features[feature]
        if described.kind is Kind.NUMBER:
            thresholds = tuple(sorted(used[feature]))
            column = Column(feature, first, first + len(thresholds) + 1, thresholds)
        else:
            codes = len(set(forest.categories[described.name].values()))
            column = Column(feature, first, first + codes, None)
        columns.append(column)
        rest()
        first = column.missing + 1
    return tuple(columns)


def _leaf_bits(tree: Tree) -> tuple[list[int], list[float]]:
    """For each node the mask of the leaves below it, and the leaf values from left to right."""
    below = [0] * len(tree)
    values: list[float] = []
    pending = [0]
    while pending:
        at = pending.pop()
        node = tree[at]
        if isinstance(node, Split):
            pending += (node.right, node.left)
        else:
            if len(values) == MAX_LEAVES:
                raise ScorerRefused(f"A tree has more than {MAX_LEAVES} leaves.", "train with `max_leaf_nodes` of at most 32.")
            below[at] = 1 << len(values)
            values.append(node)
    for at in range(len(tree) - 1, -1, -1):  # children come after their parents
        node = tree[at]
        if isinstance(node, Split):
            below[at] = below[node.left] | below[node.right]
    return below, values


def _narrow(masks: NDArray[np.uint32], node: Split, column: Column, going_left: np.uint32, going_right: np.uint32) -> None:
    """Take from each bin of the column, shape (bins,), the leaves that this split rules out. In place: there are thousands of splits."""
    if node.codes_left is not None:
        goes_left = np.zeros(len(masks) - 1, dtype=bool)
        goes_left[list(node.codes_left)] = True
        masks[:-1] &= np.where(goes_left, going_left, going_right)
    else:  # bin b holds the values with b thresholds below them
        thresholds = column.thresholds or ()
        cut = len(masks) - 1 if node.threshold is None else bisect_right(thresholds, node.threshold)
        masks[:cut] &= going_left
        masks[cut:-1] &= going_right
    masks[-1] &= going_left if node.missing_left else going_right
