"""Departures on a bus, and a reader that buries what it cannot work on."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from mlops_lab.bootstrap import Lab
from mlops_lab.errors import LabError
from mlops_lab.events import OBSERVATIONS, Message
from mlops_lab.events.dead import bury
from mlops_lab.events.reading import everything

AT = datetime(2013, 7, 1, 12, tzinfo=UTC)


def departure(minute: int, tail: str = "N1", **changes: Any) -> Message:
    """A flight that left Newark so many minutes after noon."""
    data = {"flight_id": f"f{minute}", "carrier": "UA", "origin": "EWR", "tail_number": tail, "delay_min": minute}
    usual = Message("FlightDeparted", AT + timedelta(minutes=minute), "EWR", data, id=f"departed-{minute}", partition_key=tail)
    return replace(usual, **changes)


def work_on(lab: Lab) -> None:
    """Bury what is refused, as a reader of observations would."""
    for each in everything(lab.bus, OBSERVATIONS):
        try:
            if isinstance(each, LabError):
                raise each
            lab.event_types.checked(each.message, OBSERVATIONS, lab.clock.now())
        except LabError as error:
            bury(lab.bus, OBSERVATIONS, each, error, tries=3, first_at=lab.clock.now(), at=lab.clock.now())
