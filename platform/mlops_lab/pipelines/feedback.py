"""Outcomes from the bus into their table. What cannot be a row of it goes to the dead letters, and those behind it are taken in."""

import logging
from collections.abc import Mapping, Sequence
from itertools import islice
from time import time_ns
from typing import TYPE_CHECKING, Any

from mlops_lab.bootstrap import Lab
from mlops_lab.clock import from_iso
from mlops_lab.errors import EventRefused, LabError, MessageUnreadable, ProgressMoved
from mlops_lab.events import FEEDBACK, Delivery, Message
from mlops_lab.events.dead import bury
from mlops_lab.events.reading import everything
from mlops_lab.pipelines.traced import Reported, taken_in

if TYPE_CHECKING:  # pandas comes with it
    from mlops_lab.data.reported import Report

REPORTED = "OutcomeReported"
GROUP = "feedback"
CHUNK = 10_000
"""Reports per commit of the table."""

log = logging.getLogger(__name__)


def take_in_feedback(lab: Lab) -> int:
    """Append every outcome that was reported on the bus to the table of outcomes, once, whatever dies and however often it is called.

    What the table knows decides, not the offsets of the consumer group: those are for people, and follow.

    Returns:
        The rows that were appended.

    Raises:
        BusUnreachable, StoreUnreachable: Call again later; what was appended is not appended again.
    """
    name = f"{FEEDBACK}@{lab.bus.log_id(FEEDBACK)}"
    return sum(_take_in(lab, f"{name}/{partition}", partition) for partition in range(lab.bus.partitions(FEEDBACK)))


def reported(model: str, item: Mapping[str, Any]) -> Message:
    """The event that says what a feedback item says: event_id, prediction_id, revision, outcome, and `at` as a text."""
    return Message(REPORTED, from_iso(item["at"]), model, item, id=item["event_id"], partition_key=item["prediction_id"])


def awaited(lab: Lab) -> int:
    """How many offsets of the bus lie behind what is taken in: 0 when every outcome is in the table."""
    bus = lab.bus
    return sum(max(0, bus.head(FEEDBACK, each) - bus.committed(GROUP, FEEDBACK, each)) for each in range(bus.partitions(FEEDBACK)))


def _take_in(lab: Lab, name: str, partition: int) -> int:
    rows = 0
    while True:
        after, head = lab.reported.position(name), lab.bus.head(FEEDBACK, partition)
        if head < after:  # a log that lost its end; what is reported from now on is taken in behind the former end
            log.error("feedback.log_shrank", extra={"partition": partition, "head": head, "taken_in": after})
            return rows
        found = list(islice(everything(lab.bus, FEEDBACK, partition, after), CHUNK)) if head > after else []
        if not found:
            if lab.bus.committed(GROUP, FEEDBACK, partition) < head:  # a death before the commit, or a broker that forgot what is old
                lab.bus.commit(GROUP, FEEDBACK, head, partition)
            return rows
        began_ns, reports = time_ns(), _reports(lab, found)
        try:
            rows += lab.reported.append(name, reports, found[-1].offset, lab.clock.now())
        except ProgressMoved:  # somebody else did it meanwhile
            continue
        traces = {each.offset: each.message.traceparent for each in found if isinstance(each, Delivery)}
        taken_in(lab, (Reported(said["prediction_id"], said["event_id"], traces[at]) for at, said in reports), began_ns)
        lab.bus.commit(GROUP, FEEDBACK, found[-1].offset, partition)


def _reports(lab: Lab, found: Sequence[Delivery | MessageUnreadable]) -> "Sequence[Report]":
    """What can be a row, in order; the rest is among the dead letters when this returns."""
    from mlops_lab.data.reported import Report

    read_at = lab.clock.now()
    places, reports = {each.offset: each for each in found}, []
    refused: list[tuple[int, LabError]] = []
    for each in found:
        if isinstance(each, MessageUnreadable):
            refused.append((each.offset, each))
            continue
        try:
            lab.event_types.checked(each.message, FEEDBACK, read_at)
            reports.append(Report(each.offset, each.message.data))
        except EventRefused as error:
            refused.append((each.offset, error))
    sifted = lab.reported.sifted(reports)
    refused += [(report.offset, error) for report, error in sifted.refused]
    for offset, because in refused:
        # Another look would find the same, so one is enough.
        bury(lab.bus, FEEDBACK, places[offset], because, tries=1, first_at=read_at, at=lab.clock.now())
        log.error("feedback.buried", extra={"partition": places[offset].partition, "offset": offset, "why": because.what})
    return sifted.rows
