"""What a fault is: something that is done to what runs, and a checker that says from outside whether a promise held."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from mlops_lab.chaos.world import World

Seen = TypeVar("Seen")


class Size(StrEnum):
    """How long to try: `short` fits into CI, `long` is the form whose result is committed."""

    SHORT = "short"
    LONG = "long"

    def of(self, short: int, long: int) -> int:
        """One of two counts."""
        return short if self is Size.SHORT else long


@dataclass(frozen=True, slots=True)
class Finding:
    """What a checker concludes.

    Attributes:
        measured: The figures, in the words of the figure asked for.
        broken: One sentence per thing that did not hold, with the value that proves it; empty when the promise held.
    """

    measured: str
    broken: tuple[str, ...] = ()

    @property
    def held(self) -> bool:
        return not self.broken


@dataclass(frozen=True, slots=True)
class Result:
    """A finding with what it is about, as it is kept.

    Attributes:
        id: Of the fault.
        size: Short or long.
        seed: Of every random choice.
        seconds: Wall time it took.
        finding: What came out.
    """

    id: str
    size: Size
    seed: int
    seconds: float
    finding: Finding


@dataclass(frozen=True, slots=True)
class Fault(Generic[Seen]):
    """One fault and one promise. What `run` returns is all that `check` gets: histories and stores, never a counter of the service.

    Attributes:
        id: As in `lab chaos F6`.
        title: A few words.
        does: What is done.
        promise: What holds nevertheless.
        asked: The figure to reach, for the long form.
        run: Does it: world, seed, size. Starts and ends its own processes.
        check: Reads the evidence. Must be able to fail; its test shows how.
        needs: Programs that have to be on the machine.
        kills_broker: Needs a broker that may be killed, which is not for this package to find.
    """

    id: str
    title: str
    does: str
    promise: str
    asked: str
    run: "Callable[[World, int, Size], Seen]"
    check: Callable[[Seen], Finding]
    needs: tuple[str, ...] = ()
    kills_broker: bool = False

    def prove(self, world: "World", seed: int, size: Size) -> Finding:
        """Run, then check."""
        return self.check(self.run(world, seed, size))


def few(sentences: Sequence[str], most: int = 5) -> tuple[str, ...]:
    """The first of many equal complaints, and how many more there are."""
    if len(sentences) <= most:
        return tuple(sentences)
    return (*sentences[:most], f"and {len(sentences) - most} more of the kind")
