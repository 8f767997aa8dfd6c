"""A pin with human defaults."""

from typing import Any

from mlops_lab.clock import iso
from mlops_lab.serving.pin import Pin
from serving_builders import MODEL as QUEUES
from serving_builders import NOON


def a_pin(**changes: Any) -> Pin:
    fields: dict[str, Any] = {
        "id": "pin-1",
        "number": 1,
        "model": QUEUES,
        "version": 1,
        "scorer_sha256": "a" * 64,
        "assignment": 1,
        "assigned_at": iso(NOON),
        "leaving": 2,
        "left_assignment": 2,
        "barred": (2,),
        "by": "operator",
        "why": "it answers nonsense",
        "at": iso(NOON),
    }
    return Pin(**fields | changes)
