"""What a decided window says once more labels are there: each time a new version beside the first. The decision itself stands."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mlops_lab.bootstrap import Lab
from mlops_lab.bootstrap.identities import PLATFORM
from mlops_lab.clock import from_iso
from mlops_lab.data.label import PATIENCE
from mlops_lab.errors import LostTheRace
from mlops_lab.events import Message
from mlops_lab.monitoring.window import LABEL_GRACE, Window
from mlops_lab.pipelines.captured import labelled, labels_digest
from mlops_lab.pipelines.watch import own_answers, performance_of
from mlops_lab.registry.ledger import RESTATEMENT

WATCHED_FOR = PATIENCE + LABEL_GRACE
"""How long after its decision a window is looked at again by itself; later ones on demand."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Measured:
    """One version of what a window's labels say.

    Attributes:
        version: 1 is what the decision rests on.
        at: Event time up to which labels count.
        labels: Answers of the judged version that have a label.
        labels_digest: Of those labels; empty for a decision of an earlier release.
        performance: As `performance_to_record` gives it; None where it could not be measured.
    """

    version: int
    at: datetime
    labels: int
    labels_digest: str
    performance: Mapping[str, Any] | None


def versions_of(decision: Mapping[str, Any], lab: Lab) -> list[Measured]:
    """Every version of a decided window, oldest first."""
    evidence = decision["evidence"]
    first = Measured(1, from_iso(decision["at"]), evidence["labels"], evidence.get("labels_digest") or "", evidence["performance"])
    later = [
        Measured(fact.body["version"], fact.at, fact.body["labels"], fact.body["labels_digest"], fact.body["performance"])
        for fact in lab.ledger.facts(RESTATEMENT, decision["window"])
    ]
    return [first, *later]


def restate_recent(at: datetime, lab: Lab) -> list[Measured]:
    """Measure the lately decided windows again whose labels changed since; returns the new versions.

    Args:
        at: Event time up to which labels count.
        lab: The home.
    """
    found = []
    for decision in reversed(lab.ledger.decisions()):
        age = at - from_iso(decision["at"])
        if age > WATCHED_FOR:
            break
        if age.total_seconds() > 0 and (new := restate(decision, at, lab)) is not None:
            found.append(new)
    return found


def restate(decision: Mapping[str, Any], at: datetime, lab: Lab) -> Measured | None:
    """Measure one decided window again, and record it as a new version if its labels are others than those of the last.

    Returns:
        The new version; None where the labels are the same, or there was nobody to judge.
    """
    window = Window.of_week(decision["window"])
    if decision["champion"] is None:
        return None
    known = versions_of(decision, lab)
    before = known[-1]
    found = labelled(lab, window.start, window.end, at, columns=("model_version", "probability"))
    own = own_answers(found.rows, decision["champion"])
    digest = labels_digest(lab, own)
    if digest == before.labels_digest:
        return None
    measured = performance_of(own, lab)
    new = Measured(before.version + 1, at, len(own), digest, measured)
    told = {"window": window.id, "version": new.version, "model_version": decision["champion"], "labels": new.labels}
    body = {
        **told,
        "labels_digest": digest,
        "performance": measured,
        "before": {"version": before.version, "labels": before.labels, "labels_digest": before.labels_digest}
        | {"performance": before.performance},
    }
    message = Message("PerformanceRestated", at, lab.model, told, id=f"restated-{window.id}-{new.version}")
    why = change(before, new)
    try:
        lab.ledger.record(RESTATEMENT, window.id, body, at=at, by=PLATFORM, why=why, emit=[message], behind=len(known) - 1)
    except LostTheRace:  # somebody measured it meanwhile, perhaps from the same labels
        return restate(decision, at, lab)
    log.info("watch.restated", extra={"window": window.id, "version": new.version, "labels": new.labels})
    return new


def change(before: Measured, after: Measured) -> str:
    """Such as `revision 2: 6,301 labels instead of 6,180, AUC 0.713 to 0.714, Brier 0.1554 to 0.1549`."""
    pairs = [f"{name} {_shown(before, key, digits)} to {_shown(after, key, digits)}" for name, key, digits in _NAMED]
    return f"revision {after.version}: {after.labels:,} labels instead of {before.labels:,}, {', '.join(pairs)}"


_NAMED = (("AUC", "auc", 3), ("Brier", "brier", 4))


def _shown(one: Measured, key: str, digits: int) -> str:
    value = (one.performance or {}).get(key)
    return "none" if value is None else f"{value:.{digits}f}"
