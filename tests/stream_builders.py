"""Facts of the real year as they may travel: in order, in disorder, twice, late, and what rows they have to become."""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from mlops_lab.events import Message
from mlops_lab.features.rows import RowRef
from mlops_lab.flights import messages
from mlops_lab.flights.online_usecase import FlightsOnline
from mlops_lab.flights.source import Year
from mlops_lab.flights.timeline import Timeline

MONDAY = datetime(2013, 4, 1, tzinfo=UTC)


def aircraft_of(year: Year, count: int = 300) -> list[Message]:
    """What is known of so many aircraft before the first day."""
    return list(messages.aircraft(year.aircraft.head(count), MONDAY))


def facts_of(year: Year, days: float, since: datetime = MONDAY) -> list[Message]:
    """What happened in so many days, in order of event time."""
    steps = Timeline(year, seed=7).steps(since, since + timedelta(days=days), questions=False)
    return [fact for step in steps for fact in step.facts]


def rows_of(*facts: Iterable[Message]) -> Mapping[RowRef, bytes]:
    """The rows of a set of facts, folded in one go."""
    state = FlightsOnline().row_state()
    for each in facts:
        state.apply(each)
    return state.rows()


def in_disorder(facts: Sequence[Message], seed: int, *, new_ids: bool = True) -> list[Message]:
    """Duplicates of 10 %, 20 % out of order by up to some dozens, 5 % hours late.

    Args:
        facts: In order.
        seed: Of the disorder.
        new_ids: Give a repetition another id, for a bus that passes over those it has.
    """
    chance = random.Random(seed)
    placed = []
    for i, fact in enumerate(facts):
        draw = chance.random()
        delay = chance.uniform(0, 60) if draw < 0.2 else chance.uniform(100, 500) if draw < 0.25 else 0.0
        placed.append((i + delay, fact))
        if chance.random() < 0.1:
            placed.append((i + chance.uniform(0, 200), replace(fact, id=f"{fact.id}-again") if new_ids else fact))
    return [fact for _, fact in sorted(placed, key=lambda each: each[0])]
