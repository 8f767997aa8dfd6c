"""Outcomes of parcels as they are reported on the bus."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from mlops_lab.clock import iso
from mlops_lab.events import Message
from mlops_lab.pipelines.feedback import reported
from pipeline_builders import MODEL

REPORTED_AT = datetime(2013, 2, 12, 12, tzinfo=UTC)


def a_report(number: int, **different: Any) -> Message:
    """The outcome of prediction p<number>, by event v<number>."""
    item = {
        "event_id": f"v{number}",
        "prediction_id": f"p{number}",
        "revision": 0,
        "at": iso(REPORTED_AT + timedelta(minutes=number)),
        "outcome": {"hours_late": 1.0},
    }
    return reported(MODEL, item | different)


def nonsense(number: int) -> Message:
    """One that says nothing that happened."""
    right = a_report(number)
    return replace(right, data=right.data | {"outcome": {"hours_late": "soon"}})
