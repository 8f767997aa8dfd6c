"""A stream as the world delivers it: some of it twice, some out of order, some hours late, and here and there an event that is none."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson

from mlops_lab.events import OBSERVATIONS, Message
from mlops_lab.flights.facts import DEPARTED

AGAIN_SHARE, BEHIND_SHARE, LATE_SHARE = 0.10, 0.20, 0.05
"""Of facts: sent twice; sent behind a newer one; of all, so many behind it by more than the bound."""
BOUND = timedelta(minutes=10)
"""What is behind the newest by more is late: the default of `LAB_FEATURES__LATENESS_S`."""
LATE_UP_TO = timedelta(hours=8)
"""A fact that comes eleven hours behind the newest is left out on purpose; these count."""

_AGAIN_WITHIN = timedelta(hours=1)
_BEHIND_DRAWN, _LATE_DRAWN = 0.21, 0.055  # in a quiet night nobody overtakes
_FUTURE = datetime(2999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Due:
    """An event, the topic that it is for, and the event time at which it would be sent if all went well."""

    at: datetime
    topic: str
    message: Message


@dataclass(frozen=True, slots=True)
class Sending:
    """One sending of an event.

    Attributes:
        number: 1, 2, 3, ... in the order of sending. The event carries it as its `traceparent`, so that a topic tells one sending from
            another.
        topic: Where to.
        message: The event.
        poison: It cannot be used, and is expected among the dead letters.
    """

    number: int
    topic: str
    message: Message
    poison: bool = False


def in_disorder(events: Iterable[Due], chance: random.Random, *, new_ids: bool, poison_share: float = 0.0) -> list[Sending]:
    """Put a stream into disorder: facts in all three ways, anything else is only repeated.

    Args:
        events: What happens.
        chance: Every random choice.
        new_ids: What is sent twice has another id the second time: a bus that knows its ids would leave it out.
        poison_share: After a departure, the chance that an event follows which cannot be used.
    """
    placed: list[tuple[datetime, Due, bool]] = []
    for each in events:
        at = each.at + (_delay(chance) if each.topic == OBSERVATIONS else timedelta())
        placed.append((at, each, False))
        if chance.random() < AGAIN_SHARE:
            message = replace(each.message, id=f"{each.message.id}-again") if new_ids else each.message
            placed.append((at + chance.random() * _AGAIN_WITHIN, replace(each, message=message), False))
        if each.message.type == DEPARTED and chance.random() < poison_share:
            placed.append((at, replace(each, message=_poison(each.message, chance)), True))
    placed.sort(key=lambda each: each[0])
    return [Sending(n, due.topic, _numbered(due.message, n), poison) for n, (_, due, poison) in enumerate(placed, 1)]


@dataclass(frozen=True, slots=True)
class Shares:
    """How much disorder there was, of the facts that were sent: shares, 0 to 1."""

    again: float
    behind: float
    late: float

    def __str__(self) -> str:
        return f"{self.again:.0%} twice, {self.behind:.0%} out of order, {self.late:.0%} late"


def shares_of(sent: Iterable[Sending]) -> Shares:
    """Measure it on the sendings themselves."""
    known: set[str] = set()
    again = behind = late = 0
    newest = datetime.min.replace(tzinfo=UTC)
    for each in sent:
        if each.topic != OBSERVATIONS or each.poison:
            continue
        fact = each.message.id.removesuffix("-again")
        if fact in known:
            again += 1
            continue
        known.add(fact)
        behind += each.message.at < newest
        late += newest != datetime.min.replace(tzinfo=UTC) and each.message.at < newest - BOUND
        newest = max(newest, each.message.at)
    count = max(1, len(known))
    return Shares(again / count, behind / count, late / count)


def write(sendings: Iterable[Sending], path: Path) -> None:
    """One JSON object a line, for the process that sends them."""
    with path.open("wb") as file:
        for each in sendings:
            file.write(orjson.dumps({"topic": each.topic, "event": each.message.to_cloudevent()}) + b"\n")


def number_in(traceparent: str) -> int | None:
    """The number of the sending that an event on a topic comes from; None where it comes from none of ours."""
    parts = traceparent.split("-")
    return int(parts[1], 16) if len(parts) == 4 and int(parts[1], 16) == int(parts[2], 16) else None


def _numbered(message: Message, number: int) -> Message:
    return replace(message, traceparent=f"00-{number:032x}-{number:016x}-00")


def _delay(chance: random.Random) -> timedelta:
    draw = chance.random()
    if draw < _BEHIND_DRAWN - _LATE_DRAWN:
        return chance.uniform(0.2, 1) * BOUND
    return chance.uniform(0.1, 1) * LATE_UP_TO if draw < _BEHIND_DRAWN else timedelta()


_POISONS: Sequence[str] = ("data", "type", "time")


def _poison(fact: Message, chance: random.Random) -> Message:
    """A departure with one thing wrong: a value, its type, or its time."""
    bad = replace(fact, id=f"poison-{fact.id}")
    kind = chance.choice(_POISONS)
    if kind == "data":
        return replace(bad, data={**fact.data, "delay_min": "many"})
    return replace(bad, type="FlightVanished") if kind == "type" else replace(bad, at=_FUTURE)
