"""What a model reads: named features in a fixed order, and one row of them with the age of its sources."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

Value = float | str | None
"""One feature of one row: a number, a category, or nothing known."""


class Kind(StrEnum):
    """How a model treats a feature."""

    NUMBER = "number"
    CATEGORY = "category"


@dataclass(frozen=True, slots=True)
class Feature:
    """One column of the model's input; its unit and meaning go into the model's package."""

    name: str
    kind: Kind
    unit: str
    meaning: str


class Ask(NamedTuple):
    """One question to the model. A tuple, since a request may make a thousand.

    Attributes:
        entity: What is asked about; the same entity has the same label.
        moment: Event time up to which facts may be used, aware, UTC. What happened later is invisible.
        fields: The validated content of the request, by name; what may be left out can be missing.
    """

    entity: str
    moment: datetime
    fields: Mapping[str, Any]


class FeatureRow(NamedTuple):
    """The features of one ask in the use case's order, and by source the age in seconds of the newest fact used.

    An age of None says that nothing was known, so the declared default (missing) was used.
    """

    values: tuple[Value, ...]
    ages_s: Mapping[str, float | None]
