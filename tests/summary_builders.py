"""The summary of a demo with human defaults, as its report reads it."""

from typing import Any


def a_decision(week: int, outcome: str = "watch", **changes: Any) -> dict[str, Any]:
    loss = {"mean": 0.01, "low": -0.01 if outcome == "watch" else 0.002, "high": 0.03, "days": 7, "rows": 900}
    return {
        "window": f"2013-W{week:02d}",
        "outcome": outcome,
        "because": f"Reason of week {week}.",
        "champion": 1,
        "counts": outcome == "retrain",
        "predictions": 1000,
        "labels": 900,
        "coverage": 0.9,
        "auc": 0.7,
        "brier": 0.15,
        "unexplained": loss,
        "base_rate": 0.2,
        "inputs": 11,
        "drifted": ["temperature_f", "humidity_pct"],
        **changes,
    }


def a_version(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "version": number,
        "origin": "retrain",
        "state": "serving",
        "trained_until": "2013-03-18T00:00:00Z",
        "training_rows": 60_000 + number,
        "data_sha256": f"{number}" * 64,
        "scorer_sha256": "e" * 64,
        "registered_by": "trainer",
        "approved_by": ["policy:abc"],
        "judgement": "promote",
        "because": f"Version {number} gains.",
        "figures": {"brier_gain": 0.01},
        "predictions": 3000,
        "first_served": "2013-04-01T00:01:00Z",
        "last_served": "2013-04-29T12:00:00Z",
        **changes,
    }


def an_assignment(identity: int, version: int, at: str, kind: str = "promotion") -> dict[str, Any]:
    before = None if identity == 1 else version - 1
    wall = "2026-01-01T00:00:00Z"
    return {
        "id": identity,
        "kind": kind,
        "version": version,
        "from_version": before,
        "at": at,
        "recorded_at": wall,
        "by": "operator",
        "why": f"why {identity}",
    }


def a_step(number: int, **changes: Any) -> dict[str, Any]:
    evidence = {"the audit trail verifies": "no break", f"act {number} happened": [number, "found"]}
    return {"id": number, "title": f"Title of act {number}", "passed": True, "seconds": 12.5, "evidence": evidence, "broken": [], **changes}


def a_summary(**changes: Any) -> dict[str, Any]:
    """A small year: six weeks, one lost skill, one retrained version, one refused challenger that was forced in and rolled back."""
    decisions = [
        a_decision(14),
        a_decision(15),
        a_decision(16, "retrain"),
        a_decision(17),
        a_decision(18, "rollback", champion=3),
        a_decision(19),
    ]
    weeks = [decision["window"] for decision in decisions]
    return {
        "passed": True,
        "steps": [a_step(1), a_step(2)],
        "predictions": 6000,
        "labels": 5400,
        "label_coverage": 0.9,
        "failed_requests": 0,
        "attempts": {"predict": {"requests": 5000, "rows": 6000, "failed": 0, "p50_ms": 2.0, "p99_ms": 9.0}},
        "versions": [
            a_version(1, origin="first"),
            a_version(2),
            a_version(3, origin="drill", state="barred", judgement="keep", approved_by=[]),
        ],
        "assignments": [
            an_assignment(1, 1, "2013-04-01T00:00:00Z"),
            an_assignment(2, 2, "2013-04-22T12:00:00Z"),
            an_assignment(3, 3, "2013-04-29T12:00:00Z", "override"),
            an_assignment(4, 2, "2013-05-06T12:00:00Z", "rollback"),
        ],
        "decisions": decisions,
        "refused": [
            {"kind": "batch", "what": "batch 2013-W06", "at": "2013-02-11T00:00:00Z", "why": "humidity does not fit"},
            {"kind": "approval", "what": "approval of version 1 by trainer", "at": "2013-04-01T00:00:00Z", "why": "own work"},
            {
                "kind": "challenger",
                "what": "version 3",
                "at": "2013-04-29T12:00:00Z",
                "why": "ranking is worse: 0.61; calibration is off: 0.3",
            },
        ],
        "decay_to_better_model_s": 27.01,
        "auc_served_by_week": dict.fromkeys(weeks, 0.72),
        "auc_never_retrained_by_week": {week: 0.70 + 0.01 * i for i, week in enumerate(weeks)},
        "brier_served_by_week": dict.fromkeys(weeks, 0.14),
        "brier_never_retrained_by_week": dict.fromkeys(weeks, 0.15),
        "mean_weekly_auc_gain": 0.0168,
        "mean_weekly_brier_gain": 0.0011,
        "audit_entries": 98,
        "digests": {"labelled": "f" * 64, "policy": "6" * 64},
        **changes,
    }
