"""The online side of the feature store: facts go in as they happen, the features of one moment come out."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from mlops_lab.events import Message
from mlops_lab.features.view import Ask, FeatureRow


class OnlineFeatures(Protocol):
    """Feature state kept up to date by events. Reading is point-in-time: facts behind the ask's moment do not count,
    even if they were applied already, and facts may be applied in any order."""

    def apply(self, messages: Iterable[Message]) -> None:
        """Take in facts. The same message twice has the effect of once."""
        ...

    def read(self, ask: Ask) -> FeatureRow:
        """The features as known at `ask.moment`."""
        ...

    def read_many(self, asks: Sequence[Ask]) -> Sequence[FeatureRow]:
        """The features of each ask, in order; one look at the store for all of them.

        Raises:
            FeatureStoreUnreachable: The state is kept elsewhere, and that does not answer in time.
        """
        ...
