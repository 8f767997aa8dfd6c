"""What the online rows have to hold, worked out from what was sent alone: by sets and sorting, so that a mistake in the platform's own
fold hides nothing."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mlops_lab.chaos.fault import few
from mlops_lab.events import Message
from mlops_lab.features.rows import RowRef
from mlops_lab.flights.facts import ARRIVED, DEPARTED, LISTED, OBSERVED
from mlops_lab.flights.rows import (
    AIRCRAFT,
    BEHIND_S,
    CARRIER,
    DELAY_FACT,
    DESTINATION,
    FORMAT,
    HEADER,
    OBSERVATION,
    ORIGIN,
    REGISTER,
    REGISTER_FACT,
    VIEWS,
    WEATHER_FACT,
)
from mlops_lab.flights.transform import WEATHER

_SPANS_S = {view.name: view.window_s + BEHIND_S for view in VIEWS if view.window_s is not None}
_SIZES = {view.name: DELAY_FACT.size for view in VIEWS} | {OBSERVATION.name: WEATHER_FACT.size, REGISTER.name: REGISTER_FACT.size}
_NAN = float("nan")


def rows_of(facts: Iterable[Message]) -> dict[RowRef, bytes]:
    """The rows of a set of facts, none of them too late for its row."""
    delays: dict[RowRef, set[tuple[int, int, int, str]]] = defaultdict(set)
    weather: dict[RowRef, dict[int, tuple[float, ...]]] = defaultdict(dict)
    register: dict[RowRef, tuple[int, float, float]] = {}
    for fact in facts:
        data, second = fact.data, int(fact.at.timestamp())
        if fact.type in (DEPARTED, ARRIVED):
            left = fact.type == DEPARTED
            about = [(ORIGIN, (fact.subject,)), (CARRIER, (fact.subject, data["carrier"]))] if left else [(DESTINATION, (fact.subject,))]
            about += [(AIRCRAFT, (data["tail_number"],))] if data["tail_number"] else []
            for view, key in about:
                delays[RowRef(view.name, key)].add((second, 0 if left else 1, data["delay_min"], data["flight_id"]))
        elif fact.type == OBSERVED:
            weather[RowRef(OBSERVATION.name, (fact.subject,))][second] = tuple(_number(data[name]) for name in WEATHER)
        elif fact.type == LISTED:
            ref, listed = RowRef(REGISTER.name, (fact.subject,)), (second, _number(data["seats"]), _number(data["built"]))
            register[ref] = max(register.get(ref, listed), listed, key=lambda each: each[0])
    rows = {}
    for ref, components in delays.items():
        since = _since(ref, (each[0] for each in components))
        kept = sorted(each for each in components if each[0] > since)
        rows[ref] = HEADER.pack(FORMAT, since) + b"".join(DELAY_FACT.pack(second, delay) for second, _, delay, _ in kept)
    for ref, observed in weather.items():
        since = _since(ref, observed)
        rows[ref] = HEADER.pack(FORMAT, since) + b"".join(WEATHER_FACT.pack(at, *observed[at]) for at in sorted(observed) if at > since)
    return rows | {ref: HEADER.pack(FORMAT, 0) + REGISTER_FACT.pack(*listed) for ref, listed in register.items()}


@dataclass(frozen=True, slots=True)
class Difference:
    """How rows differ from what they have to be.

    Attributes:
        lost: Components that are missing, over all rows; one fact is a component of up to three of them.
        doubled: Components that are there and should not be, or more often than they should.
        broken: A sentence per row that differs.
    """

    lost: int
    doubled: int
    broken: tuple[str, ...]


def difference(wanted: Mapping[RowRef, bytes], found: Mapping[RowRef, bytes]) -> Difference:
    """Compare rows byte by byte, and say what of them is too few and what too many."""
    lost = doubled = 0
    sentences = []
    for ref in sorted(wanted.keys() | found.keys()):
        right, there = wanted.get(ref), found.get(ref)
        if right == there:
            continue
        too_few, too_many = _components(ref, right), _components(ref, there)
        common = too_few & too_many
        too_few, too_many = too_few - common, too_many - common
        lost, doubled = lost + too_few.total(), doubled + too_many.total()
        name = f"row {ref.view} of {'/'.join(ref.key)}"
        if right is None or there is None:
            sentences.append(f"{name} is {'missing' if there is None else 'there, and nothing was sent for it'}")
        else:
            sentences.append(f"{name} lacks {too_few.total()} components and has {too_many.total()} too many")
    return Difference(lost, doubled, few(sentences))


def _components(ref: RowRef, row: bytes | None) -> Counter[bytes]:
    body = b"" if row is None else row[HEADER.size :]
    size = _SIZES[ref.view]
    return Counter(body[start : start + size] for start in range(0, len(body), size))


def _since(ref: RowRef, seconds: Iterable[int]) -> int:
    return max(0, max(seconds) - _SPANS_S[ref.view])


def _number(value: float | None) -> float:
    return _NAN if value is None else float(value)
