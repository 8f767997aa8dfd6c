"""Evidence of what was sent through topics and where it ended, as it should be and as it should not."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from mlops_lab.chaos.disorder import Sending
from mlops_lab.chaos.folded import rows_of
from mlops_lab.chaos.streamed import Laid, Streamed
from mlops_lab.events import FEEDBACK, OBSERVATIONS, Message
from mlops_lab.features.rows import RowRef
from mlops_lab.flights.rows import DELAY_FACT


def facts_of(sent: Sequence[Sending]) -> list[Message]:
    return [each.message for each in sent if each.topic != FEEDBACK and not each.poison]


def in_order(sent: Sequence[Sending], **changes: Any) -> Streamed:
    """Everything as it should be: one partition, poison buried, each outcome in the table as often as it lies on its topic."""
    offsets: dict[str, int] = {}
    laid, dead = [], []
    for each in sent:
        offset = offsets[each.topic] = offsets.get(each.topic, 0) + 1
        place = Laid.of(each.topic, 0, offset, each.message.key, json.dumps(each.message.to_cloudevent()).encode())
        laid.append(place)
        if each.poison:
            dead.append(a_letter(place))
    outcomes = [each.message.id for each in sent if each.topic == FEEDBACK]
    return replace(Streamed(sent, laid, dead, rows_of(facts_of(sent)), 0, outcomes), **changes)


def a_letter(of: Laid, **changes: Any) -> Laid:
    data = {"tries": 3, "raw": of.raw.decode(), "encoding": "utf-8"} | changes
    return Laid.of(f"{of.topic}.dead", 0, 1, of.place, json.dumps({"id": of.place, "type": "DeadLetter", "data": data}).encode())


def a_row(good: Streamed, view: str = "origin_departures") -> tuple[RowRef, bytes]:
    return next((ref, row) for ref, row in good.rows.items() if ref.view == view)


def lying(*numbers: int, key: str = "N1", partition: int = 0) -> list[Laid]:
    found = []
    for offset, number in enumerate(numbers, 1):
        message = Message("FlightDeparted", datetime(2013, 4, 1, tzinfo=UTC), "EWR", {}, traceparent=f"00-{number:032x}-{number:016x}-00")
        found.append(Laid.of(OBSERVATIONS, partition, offset, key, json.dumps(message.to_cloudevent()).encode()))
    return found


def planted(good: Streamed) -> Iterator[Streamed]:
    """One loss, one double, one swap, one outcome too many."""
    ref, row = a_row(good)
    yield replace(good, rows={**good.rows, ref: row[: -DELAY_FACT.size]})
    yield replace(good, rows={**good.rows, ref: row + row[-DELAY_FACT.size :]})
    yield replace(good, laid=[*good.laid, *lying(7, 6)])
    yield replace(good, outcomes=[*good.outcomes, good.outcomes[0]])
