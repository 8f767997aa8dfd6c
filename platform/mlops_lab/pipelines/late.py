"""Why an answer was scored on other features than the facts give: the facts that came after it, proven by leaving them out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from mlops_lab.events import Message
from mlops_lab.features import Ask, Value
from mlops_lab.pipelines.published import Published
from mlops_lab.usecase import OnlineUseCase

_ALL_SUBSETS = 8
"""Late facts up to which every subset is tried, and not only those in the order of publication."""


@dataclass(frozen=True)
class Reason:
    """Without these facts, which came late, the features are those that were served.

    Attributes:
        missing: Facts that lie at or before the question's moment, and were published behind newer ones.
    """

    missing: tuple[Published, ...]

    def __str__(self) -> str:
        first = self.missing[0]
        more = f", and {len(self.missing) - 1} more" if len(self.missing) > 1 else ""
        return f"{first.message.type} {first.message.id} was published {first.late_min:.0f} min late, after the answer{more}"


def reason_for(
    ask: Ask, served: Mapping[str, Value], facts: Sequence[Published], references: Sequence[Message], use_case: OnlineUseCase
) -> Reason | None:
    """The facts that a question's answer did not know yet, if leaving them out gives just the features that were served.

    Args:
        ask: The question.
        served: Features as scored, by name; others are not compared.
        facts: What was published of the time before the question.
        references: Slow-moving facts.
        use_case: Whose features.

    Returns:
        None where no set of late facts gives them.
    """
    known = [one for one in facts if one.message.at <= ask.moment]
    named = [one for one in references if one.subject in ask.fields.values()]  # a question names what it refers to
    names = [feature.name for feature in use_case.features]

    def features(without: Sequence[Published]) -> dict[str, Value]:
        left_out = {(one.partition, one.offset) for one in without}
        state = use_case.online()
        state.apply(named)
        state.apply(one.message for one in known if (one.partition, one.offset) not in left_out)
        values = dict(zip(names, state.read(ask).values, strict=True))
        return {name: values[name] for name in served}

    late = [one for one in known if one.seen > one.message.at or one.seen >= ask.moment]
    if not late:
        return None
    all_in, all_out = features(()), features(late)

    def touching(some: Sequence[Published]) -> list[Published]:
        """Those of some late facts that make a difference, alone or when all others are missing."""
        others = [one for one in late if one not in some]
        if features(some) == all_in and features(others) == all_out:
            return []
        if len(some) == 1:
            return list(some)
        half = len(some) // 2
        return [*touching(some[:half]), *touching(some[half:])]

    for missing in _sets(touching(late)):
        if features(missing) == served:
            return Reason(tuple(missing))
    return None


def _sets(late: Sequence[Published]) -> Iterator[Sequence[Published]]:
    """Sets of facts that an answer may not have known: those from some point of publication on first, then all others."""
    ordered = sorted(late, key=lambda one: (one.seen, one.partition, one.offset))
    for at in range(len(ordered)):
        yield ordered[at:]
    if len(ordered) <= _ALL_SUBSETS:
        for size in range(1, len(ordered) + 1):
            yield from combinations(ordered, size)
