"""Several processors beside each other: each has its share of the rows."""

from dataclasses import dataclass
from zlib import crc32

from mlops_lab.features.rows import RowRef

GROUP = "features"
"""The consumer group of the one processor; those of shards begin with it."""


@dataclass(frozen=True, slots=True)
class Shard:
    """Which rows are this processor's: of `count` processors, each reads all facts and keeps the rows that fall to its `number`.

    Rows may go to one store, but what is said of the progress may not: each shard needs a store of its own for that, or it takes what
    another one wrote for a store that was put back. The service `features` is one processor.
    """

    number: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.number < self.count:
            raise ValueError(f"there is no shard {self.number} of {self.count}: they are numbered from 0")

    @property
    def group(self) -> str:
        """The consumer group that remembers the offsets."""
        return GROUP if self.count == 1 else f"{GROUP}-{self.number}-of-{self.count}"

    def has(self, ref: RowRef) -> bool:
        return self.count == 1 or crc32("\0".join((ref.view, *ref.key)).encode()) % self.count == self.number
