"""Where the features of answers come from, as the service sees it."""

from collections.abc import Sequence
from typing import Protocol

from mlops_lab.features import Ask
from mlops_lab.features.view import FeatureRow
from mlops_lab.serving.dependency import Dependency


class FeatureSource(Protocol):
    """Used from one thread, the one that answers. Kept by `facts.py` (facts of the bus, folded in this process) and by `stored.py` (rows
    of an online store that others write).

    Attributes:
        trouble: What is wrong, for a person; None while all is well.
    """

    trouble: str | None

    @property
    def watermark_s(self) -> int | None:
        """Event time (Unix seconds) up to which facts are in, but for those that are later than the bound; None where it is unknown. As of
        the last reading."""
        ...

    def catch_up(self) -> None:
        """Called at the start and between requests, for what readings should not have to wait for. Never raises for what is down."""
        ...

    def read_many(self, asks: Sequence[Ask]) -> Sequence[FeatureRow]:
        """The features of each ask, in order, with all facts that were published before; one look at the outside for all of them. What
        cannot be had is missing, and its age is None."""
        ...

    def dependency(self) -> Dependency:
        """Its line of `/readyz`."""
        ...
