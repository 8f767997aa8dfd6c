"""A question that was answered, put together again from what is recorded of it."""

from typing import NamedTuple

from mlops_lab.features.view import Ask


class PastQuestion(NamedTuple):
    """A past question.

    Attributes:
        ask: What was asked, and as of when.
        unknown: Features that cannot be computed again: what they need of the question is recorded nowhere.
    """

    ask: Ask
    unknown: frozenset[str] = frozenset()
