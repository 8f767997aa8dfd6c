"""What the summary says about time: the decided weeks, which version served when, and the moments that changed it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mlops_lab.clock import from_iso
from mlops_lab.monitoring.window import Window

Record = dict[str, Any]


@dataclass(frozen=True)
class Week:
    """One decided week.

    Attributes:
        window: Its span of event time.
        decision: The record, as in the summary.
        served: ROC AUC of the answers that were given; None where it could not be measured.
        never: That of version 1 on the same rows.
    """

    window: Window
    decision: Record
    served: float | None
    never: float | None

    @property
    def middle(self) -> datetime:
        return self.window.start + (self.window.end - self.window.start) / 2


@dataclass(frozen=True)
class Span:
    """A version was champion from `start` to `end`, and how it came to that: `promotion`, `override` or `rollback`."""

    version: int
    kind: str
    start: datetime
    end: datetime


@dataclass(frozen=True)
class Mark:
    """A moment to show: a change of champion, or a challenger that was refused."""

    at: datetime
    kind: str
    label: str
    why: str


def weeks(summary: Record) -> list[Week]:
    """The decided weeks, oldest first."""
    served, never = summary["auc_served_by_week"], summary["auc_never_retrained_by_week"]
    found = [Week(Window.of_week(d["window"]), d, served.get(d["window"]), never.get(d["window"])) for d in summary["decisions"]]
    return sorted(found, key=lambda week: week.window)


def spans(summary: Record) -> list[Span]:
    """Who was champion, without gaps; the last one until the end of the last week."""
    changes = [(from_iso(one["at"]), one) for one in summary["assignments"]]
    decided = weeks(summary)
    last = max([week.window.end for week in decided] + [at for at, _ in changes], default=None)
    ends: Sequence[datetime | None] = [*(at for at, _ in changes[1:]), last]
    found = zip(changes, ends, strict=False)
    return [Span(one["version"], one["kind"], at, end) for (at, one), end in found if one["version"] is not None and end is not None]


def marks(summary: Record) -> list[Mark]:
    """Refused challengers and changes of champion, in order of event time."""
    refused = [Mark(from_iso(one["at"]), "refusal", f"{one['what']} refused", one["why"]) for one in challengers(summary)]
    changes = [Mark(from_iso(one["at"]), one["kind"], _said(one), one["why"]) for one in summary["assignments"]]
    return sorted([*refused, *changes], key=lambda mark: mark.at)


def challengers(summary: Record) -> list[Record]:
    """The refusals that were of a trained version."""
    return [one for one in summary["refused"] if one.get("kind") == "challenger"]


def _said(one: Record) -> str:
    name = "nothing" if one["version"] is None else f"version {one['version']}"
    return {"promotion": f"{name} promoted", "override": f"{name} forced in", "rollback": f"rolled back to {name}"}.get(
        one["kind"], f"{one['kind']}: {name}"
    )
