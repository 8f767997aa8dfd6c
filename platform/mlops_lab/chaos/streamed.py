"""What was sent through topics, and where it ended: the evidence of the faults of events, and what breaks their promises."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import orjson

from mlops_lab.chaos.disorder import AGAIN_SHARE, BEHIND_SHARE, LATE_SHARE, Sending, number_in, shares_of
from mlops_lab.chaos.fault import few
from mlops_lab.chaos.folded import Difference, difference, rows_of
from mlops_lab.events import FEEDBACK, OBSERVATIONS, REFERENCES
from mlops_lab.features.rows import RowRef

DEAD_LETTER = "DeadLetter"
TRIES = 3
"""How often an event is tried before it is buried."""
POISON = b"poison"
"""Stands in every event that cannot be used, be it one of ours or bytes that are no event at all."""

_FACTS = (OBSERVATIONS, REFERENCES)
_ENOUGH = 0.8


@dataclass(frozen=True, slots=True)
class Laid:
    """What lies on a topic at one place.

    Attributes:
        topic: Without prefix.
        partition: Of the topic.
        offset: 1, 2, 3, ...
        key: What its order is by.
        raw: Its bytes, as far as the bus keeps them as such.
        event: The CloudEvent; None where the bytes are none.
    """

    topic: str
    partition: int
    offset: int
    key: str
    raw: bytes
    event: Mapping[str, Any] | None

    @classmethod
    def of(cls, topic: str, partition: int, offset: int, key: str, raw: bytes) -> "Laid":
        """Take the bytes apart, if they are an event."""
        try:
            event = orjson.loads(raw)
        except orjson.JSONDecodeError:
            event = None
        return cls(topic, partition, offset, key, raw, event if isinstance(event, dict) else None)

    @property
    def number(self) -> int | None:
        """Of the sending that it comes from."""
        return number_in(self.event.get("traceparent", "")) if self.event else None

    @property
    def place(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


@dataclass(frozen=True)
class Streamed:
    """The evidence.

    Attributes:
        sent: What `publish` accepted, in that order.
        laid: All that lies on the topics in the end, in order per partition.
        dead: All that lies on the topics of dead letters.
        rows: The online rows in the end.
        strangers: What else lies in the online store: rows of things that were never sent.
        outcomes: Event ids in the table of outcomes, one for each of its rows.
    """

    sent: Sequence[Sending]
    laid: Sequence[Laid]
    dead: Sequence[Laid]
    rows: Mapping[RowRef, bytes]
    strangers: int = 0
    outcomes: Sequence[str] = field(default=())

    @property
    def facts(self) -> list[Sending]:
        """The facts that have to be in the rows."""
        return [each for each in self.sent if each.topic in _FACTS and not each.poison]

    @property
    def reports(self) -> list[Sending]:
        return [each for each in self.sent if each.topic == FEEDBACK]

    @property
    def letters(self) -> Mapping[str, Mapping[str, Any]]:
        """The dead letters by the place of what is in them; burying again has the effect of once."""
        return {each.event["id"]: each.event["data"] for each in self.dead if each.event and each.event.get("type") == DEAD_LETTER}

    @property
    def sent_again(self) -> int:
        """How many sendings lie on a topic more often than once: what failed half-way was sent again."""
        return sum(count > 1 for count in Counter(each.number for each in self.laid if each.number is not None).values())

    def difference(self) -> Difference:
        """Between the rows and the facts."""
        return difference(wanted_rows(self.sent), self.rows)


@dataclass(frozen=True, slots=True)
class Rest:
    """One moment at which nothing was on its way: how long it took to come to it, infinite for never, and how the rows differed then."""

    seconds: float
    difference: Difference


def rests_broken(rests: Sequence[Rest]) -> tuple[str, ...]:
    """What was wrong with the rows at such moments."""
    return few([f"at rest {number}: {sentence}" for number, rest in enumerate(rests, 1) for sentence in rest.difference.broken])


def tally(last: Difference, rests: Sequence[Rest]) -> str:
    """How much was lost and how much counted twice, over all looks; and how soon after each fault all was complete."""
    looks = [last, *(rest.difference for rest in rests)]
    slowest_s = max((rest.seconds for rest in rests), default=0.0)
    return f"{sum(each.lost for each in looks)} lost, {sum(each.doubled for each in looks)} double, complete ≤ {slowest_s:.1f} s after each"


def wanted_rows(sent: Iterable[Sending]) -> dict[RowRef, bytes]:
    """The rows of what was sent and can be used."""
    return rows_of(each.message for each in sent if each.topic in _FACTS and not each.poison)


def rows_broken(seen: Streamed) -> tuple[str, ...]:
    """What breaks the promise that the rows are those of the facts that were sent."""
    broken = seen.difference().broken
    if seen.strangers:
        broken += (f"the online store holds {seen.strangers} rows of things that were never sent",)
    if not seen.facts:
        broken += ("no fact was sent, so nothing was tried",)
    return broken


def lost_on_topic(seen: Streamed) -> tuple[str, ...]:
    """What was accepted and does not lie on its topic; of several sendings of one id, one has to."""
    there = {(each.topic, each.event["id"]) for each in seen.laid if each.event}
    missing = {(each.topic, each.message.id) for each in seen.sent if each.topic != REFERENCES} - there  # which the broker compacts
    return few([f"event {identifier} was accepted for {topic} and does not lie there" for topic, identifier in sorted(missing)])


def order_broken(laid: Iterable[Laid]) -> tuple[str, ...]:
    """What breaks the order of sendings within a key. What failed half-way is sent again: the first of each number count, and the last."""
    numbers: dict[tuple[str, str], list[int]] = defaultdict(list)
    places: dict[tuple[str, str], set[int]] = defaultdict(set)
    for each in laid:
        if each.number is not None and each.topic != REFERENCES:
            numbers[each.topic, each.key].append(each.number)
            places[each.topic, each.key].add(each.partition)
    scattered = [f"key {key} of {topic} lies in partitions {sorted(found)}" for (topic, key), found in places.items() if len(found) > 1]
    swapped = []
    for (topic, key), found in numbers.items():
        for order in (list(dict.fromkeys(found)), list(dict.fromkeys(reversed(found)))[::-1]):
            for before, after in pairwise(order):
                if before > after:
                    swapped.append(f"key {key} of {topic}: sending {after} lies behind sending {before}")
                    break
    return few(scattered) + few(swapped)


def dead_broken(seen: Streamed) -> tuple[str, ...]:
    """What breaks the promise that the dead letters are exactly what cannot be used, each after three tries."""
    poisoned = {each.number for each in seen.sent if each.poison}
    wanted = {each.place: each for each in seen.laid if each.topic in _FACTS and (each.number in poisoned or each.number is None)}
    letters = seen.letters
    broken = [f"{each.place} is no dead letter" for each in seen.dead if not each.event or each.event.get("type") != DEAD_LETTER]
    broken += [f"{place} cannot be used and is not among the dead letters" for place in wanted.keys() - letters.keys()]
    broken += [f"{place} is among the dead letters and can be used" for place in letters.keys() - wanted.keys()]
    for place in sorted(wanted.keys() & letters.keys()):
        letter = letters[place]
        if letter["tries"] != TRIES:
            broken.append(f"{place} was buried after {letter['tries']} tries, not {TRIES}")
        if POISON.decode() not in letter["raw"] and letter["encoding"] == "utf-8":
            broken.append(f"the dead letter of {place} does not hold it")
    if not wanted:
        broken.append("nothing on the topics was unusable, so no dead letter was tried")
    return few(broken)


def outcomes_broken(seen: Streamed) -> tuple[str, ...]:
    """What breaks the promise that every reported outcome is taken from its topic into the table exactly once."""
    on_topic = Counter(each.event["id"] for each in seen.laid if each.topic == FEEDBACK and each.event)
    in_table = Counter(seen.outcomes)
    reported = {each.message.id for each in seen.reports}
    lost = [f"outcome {identifier} was accepted and is not in the table" for identifier in sorted(reported - in_table.keys())]
    wrong = [
        f"outcome {identifier} lies {on_topic[identifier]} times on its topic and is {count} times in the table"
        for identifier, count in sorted(in_table.items())
        if count != on_topic[identifier]
    ]
    if not reported:
        lost.append("no outcome was reported, so nothing was tried")
    return few(lost) + few(wrong)


def disorder_missed(seen: Streamed) -> tuple[str, ...]:
    """Whether there was as much disorder as is said; a prefix of it may hold a little less."""
    shares = shares_of(seen.sent)
    asked = {"twice": (shares.again, AGAIN_SHARE), "out of order": (shares.behind, BEHIND_SHARE), "late": (shares.late, LATE_SHARE)}
    return tuple(
        f"only {found:.1%} of the facts were {what}, {wanted:.0%} are asked for"
        for what, (found, wanted) in asked.items()
        if found < _ENOUGH * wanted
    )
