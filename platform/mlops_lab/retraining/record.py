"""A decision as a JSON object and back, for the ledger's record of decisions and for messages."""

from collections.abc import Mapping
from typing import Any

from mlops_lab.clock import from_iso, iso
from mlops_lab.errors import EvidenceMissing
from mlops_lab.monitoring.window import Window
from mlops_lab.retraining.decision import Decision, Outcome


def to_record(decision: Decision) -> dict[str, Any]:
    """The whole decision. Numbers, texts, lists, None: `json.dumps(..., allow_nan=False)` takes it."""
    return {
        "window": decision.window.id,
        "start": iso(decision.window.start),
        "end": iso(decision.window.end),
        "at": iso(decision.at),
        "outcome": decision.outcome.value,
        "because": decision.because,
        "champion": decision.champion,
        "counts": decision.counts,
        "evidence": decision.evidence,
    }


def from_record(record: Mapping[str, Any]) -> Decision:
    """The inverse of `to_record`. Raises EvidenceMissing where the record is not exactly that: a half-read past would change decisions."""
    try:
        champion, counts, evidence = record["champion"], record["counts"], record["evidence"]
        if not isinstance(counts, bool) or not isinstance(evidence, dict) or not (champion is None or type(champion) is int):
            raise ValueError("a field has the wrong type")
        window = Window(from_iso(record["start"]), from_iso(record["end"]))
        if window.id != record["window"]:
            raise ValueError(f"{window.start} does not begin {record['window']}")
        return Decision(window, Outcome(record["outcome"]), str(record["because"]), champion, counts, evidence)
    except (KeyError, TypeError, ValueError) as error:
        raise EvidenceMissing(f"A recorded decision cannot be read: {error!r}.", "check the records with `lab audit verify`.") from error
