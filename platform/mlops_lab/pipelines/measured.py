"""What the loop is like now, as numbers: read from ledger, bus and home, so that a restart resets nothing. Values only."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import nan
from typing import Any

from mlops_lab.bootstrap import Lab
from mlops_lab.bootstrap.running import sign_of
from mlops_lab.bootstrap.services import FEATURES
from mlops_lab.clock import from_iso
from mlops_lab.events import ANSWERS, CONTROL, FEEDBACK, OBSERVATIONS, REFERENCES
from mlops_lab.events.topics import dead_of
from mlops_lab.features.shard import Shard
from mlops_lab.monitoring.canary import Outcome as TrialOutcome
from mlops_lab.pipelines.backlog import backlog
from mlops_lab.pipelines.feature_status import read_status, status_file
from mlops_lab.pipelines.feedback import awaited
from mlops_lab.pipelines.guard import TRIAL
from mlops_lab.registry.ledger import OVERDUE, Fact
from mlops_lab.registry.open_orders import DONE, FAILED, ORDER, open_orders
from mlops_lab.registry.version import Role
from mlops_lab.retraining.decision import Outcome

COUNTER, GAUGE = "counter", "gauge"
PREFIX = "lab_loop_"
DESCRIBED: Mapping[str, tuple[str, str, tuple[str, ...]]] = {
    "event_time_seconds": (GAUGE, "Event time that decisions have come to, Unix seconds.", ()),
    "decisions_total": (COUNTER, "Closed weeks by how they were decided.", ("outcome",)),
    "last_decision": (GAUGE, "1 for the outcome of the newest week.", ("outcome",)),
    "week_auc": (GAUGE, "ROC AUC of the champion in the newest week.", ()),
    "week_brier": (GAUGE, "Brier score of the champion in the newest week.", ()),
    "week_brier_skill": (GAUGE, "Brier skill of the champion in the newest week; below 0 is worse than the base rate.", ()),
    "week_unexplained_loss": (GAUGE, "Realised Brier score minus the one that the model expects of itself, newest week.", ("bound",)),
    "week_base_rate_ratio": (GAUGE, "Share of late flights in the newest week, 0 to 1.", ()),
    "week_label_coverage_ratio": (GAUGE, "Share of answered questions whose label had arrived, newest week, 0 to 1.", ()),
    "week_drift": (GAUGE, "Distance of a column from its reference, newest week, in the unit of its method.", ("column",)),
    "week_drifted_ratio": (GAUGE, "Share of columns that moved in the newest week, 0 to 1.", ()),
    "champion_version": (GAUGE, "The version that has the traffic by the ledger, 0 for none.", ()),
    "versions_total": (COUNTER, "Registered versions.", ()),
    "assignments_total": (COUNTER, "Times the traffic was given to a version, by kind.", ("kind",)),
    "canary_trials_total": (COUNTER, "Trials of canaries that have ended, by how.", ("outcome",)),
    "judgements_total": (COUNTER, "Judged versions by outcome.", ("outcome",)),
    "orders_total": (COUNTER, "Training orders by what became of them.", ("state",)),
    "open_order_age_seconds": (GAUGE, "Wall time since the oldest training order that has not ended was given; 0 without one.", ()),
    "last_training_seconds": (GAUGE, "Wall time of the last training from its order to its end.", ()),
    "decay_to_better_seconds": (GAUGE, "Wall time from the last decision to retrain to the promotion that followed.", ()),
    "pages_total": (COUNTER, "Times a person was called.", ()),
    "failures_total": (COUNTER, "Orders and facts that could not be carried out.", ("kind",)),
    "outcomes_waiting": (GAUGE, "Reported outcomes on the bus that are not in their table yet.", ()),
    "overdue_outcomes_total": (COUNTER, "Outcomes that waited for their prediction for too long.", ()),
    "log_backlog_bytes": (GAUGE, "Bytes of a replica's prediction log that are not in the tables.", ("replica",)),
    "log_backlog_age_seconds": (GAUGE, "Wall time since the oldest of them was written; 0 when none waits.", ("replica",)),
    "outbox_pending": (GAUGE, "Recorded events that are not on the bus yet; 1000 and more count as 1000.", ()),
    "spool_waiting": (GAUGE, "Events that wait for a broker that is away, by topic.", ("topic",)),
    "dead_letters": (GAUGE, "Events that nobody could use, by topic.", ("topic",)),
    "processor_watermark_seconds": (
        GAUGE,
        "Event time up to which facts are in the online store, Unix seconds; NaN where it is unknown.",
        (),
    ),
    "processor_behind": (GAUGE, "Events that the stream processor has not taken in.", ()),
    "processor_heard_seconds": (GAUGE, "When the stream processor last said something, Unix seconds of wall time.", ()),
    "processor_events_total": (COUNTER, "Events the stream processor has met since it began, by what became of them.", ("state",)),
    "worker_heard_seconds": (GAUGE, "When a worker last gave a sign of life, Unix seconds of wall time.", ("worker",)),
    "readable": (GAUGE, "1 where this part could be read for this page; its numbers are missing where it could not.", ("part",)),
}
"""Name behind the prefix, with type, meaning and labels."""

_OUTBOX_LIMIT = 1000
_TOPICS = (ANSWERS, CONTROL, FEEDBACK, OBSERVATIONS, REFERENCES)


@dataclass(frozen=True, slots=True)
class Sample:
    """One number."""

    name: str
    value: float
    labels: tuple[str, ...] = ()


def _week(lab: Lab) -> Iterator[Sample]:
    decisions = lab.ledger.decisions()
    counts = Counter(str(one["outcome"]) for one in decisions)
    for outcome in Outcome:
        yield Sample("decisions_total", counts[outcome.value], (outcome.value,))
    if not decisions:
        return
    last = decisions[-1]
    evidence: Mapping[str, Any] = last["evidence"]
    yield Sample("event_time_seconds", from_iso(last["at"]).timestamp())
    for outcome in Outcome:
        yield Sample("last_decision", outcome.value == last["outcome"], (outcome.value,))
    if skill := evidence.get("performance"):
        for name in ("auc", "brier", "brier_skill"):
            yield Sample(f"week_{name}", _number(skill.get(name)))
        yield Sample("week_base_rate_ratio", _number(skill.get("base_rate")))
        for bound in ("low", "mean", "high"):
            yield Sample("week_unexplained_loss", _number((skill.get("unexplained") or {}).get(bound)), (bound,))
    if "coverage" in evidence:
        yield Sample("week_label_coverage_ratio", _number(evidence["coverage"]))
    if drift := evidence.get("drift"):
        yield Sample("week_drifted_ratio", _number(drift.get("share")))
        for column in (*drift.get("columns", ()), *([drift["prediction"]] if drift.get("prediction") else ())):
            yield Sample("week_drift", _number(column["value"]), (str(column["name"]),))


def _versions(lab: Lab) -> Iterator[Sample]:
    champion = lab.ledger.current(Role.CHAMPION)
    yield Sample("champion_version", (champion.version or 0) if champion else 0)
    versions = lab.ledger.versions()
    yield Sample("versions_total", len(versions))
    kinds = Counter(one.kind for one in lab.ledger.assignments() if one.role == Role.CHAMPION)
    for kind in ("promotion", "rollback", "override"):
        yield Sample("assignments_total", kinds[kind], (kind,))
    outcomes = Counter(str(fact.body["outcome"]) for fact in lab.ledger.facts("judgement"))
    for outcome in ("promote", "keep"):
        yield Sample("judgements_total", outcomes[outcome], (outcome,))
    trials = Counter(str(fact.body["outcome"]) for fact in lab.ledger.facts(TRIAL))
    for ended in (TrialOutcome.PASSED, TrialOutcome.ABORT):
        yield Sample("canary_trials_total", trials[ended.value], (ended.value,))


def _orders(lab: Lab, now: float) -> Iterator[Sample]:
    given = list(lab.ledger.facts(ORDER))
    done = {fact.subject: fact for fact in lab.ledger.facts(DONE)}
    failed = {fact.subject for fact in lab.ledger.facts(FAILED)}
    yield Sample("orders_total", len(given), ("given",))
    yield Sample("orders_total", sum(fact.subject in done for fact in given), ("done",))
    yield Sample("orders_total", sum(fact.subject in failed for fact in given), ("failed",))
    open_ = [fact.recorded_at for fact in open_orders(lab.ledger)]
    yield Sample("open_order_age_seconds", max(0.0, now - min(open_).timestamp()) if open_ else 0.0)
    ended = [(fact, done[fact.subject]) for fact in given if fact.subject in done]
    if ended:
        order, end = ended[-1]
        yield Sample("last_training_seconds", (end.recorded_at - order.recorded_at).total_seconds())
    better = _decay_to_better(lab, given)
    if better is not None:
        yield Sample("decay_to_better_seconds", better)


def _decay_to_better(lab: Lab, orders: Sequence[Fact]) -> float | None:
    """Of the last retraining whose version took the traffic."""
    decided = {fact.at: fact.recorded_at for fact in lab.ledger.facts("decision") if fact.body["outcome"] == Outcome.RETRAIN.value}
    promoted: list[tuple[datetime, datetime]] = [
        (one.at, one.recorded_at) for one in lab.ledger.assignments() if one.role == Role.CHAMPION and one.kind == "promotion"
    ]
    found = [(recorded - decided[at]).total_seconds() for at, recorded in promoted if at in decided]
    return found[-1] if found else None


def _incidents(lab: Lab) -> Iterator[Sample]:
    yield Sample("pages_total", len(lab.ledger.facts("page")))
    for kind in (FAILED, "fact_failed"):
        yield Sample("failures_total", len(lab.ledger.facts(kind)), (kind,))
    yield Sample("overdue_outcomes_total", sum(len(fact.body["event_ids"]) for fact in lab.ledger.facts(OVERDUE)))


def _ledger(lab: Lab, workers: Sequence[str]) -> Iterator[Sample]:
    yield from _week(lab)
    yield from _versions(lab)
    yield from _orders(lab, time.time())
    yield from _incidents(lab)
    yield Sample("outbox_pending", len(lab.outbox.pending(_OUTBOX_LIMIT)))


def _logs(lab: Lab, workers: Sequence[str]) -> Iterator[Sample]:
    now = time.time()
    for one in backlog(lab):
        yield Sample("log_backlog_bytes", one.unshipped_bytes, (one.replica,))
        since = one.unshipped_since
        yield Sample("log_backlog_age_seconds", max(0.0, now - since.timestamp()) if since else 0.0, (one.replica,))


def _spool(lab: Lab, workers: Sequence[str]) -> Iterator[Sample]:
    waiting = lab.bus.waiting()
    for topic in _TOPICS:
        yield Sample("spool_waiting", waiting.get(topic, 0), (topic,))


def _bus(lab: Lab, workers: Sequence[str]) -> Iterator[Sample]:
    yield Sample("outcomes_waiting", awaited(lab))
    for topic in _TOPICS:
        dead = dead_of(topic)
        yield Sample("dead_letters", sum(lab.bus.head(dead, each) for each in range(lab.bus.partitions(dead))), (topic,))


def _workers(lab: Lab, workers: Sequence[str]) -> Iterator[Sample]:
    for name in workers:
        sign = sign_of(lab.home, name)
        yield Sample("worker_heard_seconds", sign.stat().st_mtime if sign.exists() else nan, (name,))
    if FEATURES not in workers:  # what a processor of former days has left in the home is not silence
        return
    said = read_status(status_file(lab.home, Shard().group))
    if said is None:
        return
    yield Sample("processor_watermark_seconds", said.watermark_s or nan)
    yield Sample("processor_behind", sum(sum(each) for each in said.lag.values()))
    yield Sample("processor_heard_seconds", said.at_s)
    for state, number in said.counts.items():
        yield Sample("processor_events_total", number, (state,))


def _number(value: Any) -> float:
    return nan if value is None else float(value)


PARTS: Mapping[str, Callable[[Lab, Sequence[str]], Iterable[Sample]]] = {
    "ledger": _ledger,
    "logs": _logs,
    "spool": _spool,
    "workers": _workers,
    "bus": _bus,
}
"""Where the numbers come from, each part for itself: one that is away takes none of the others with it.

Each raises LabError or OSError where it cannot be read, and takes as long as its own time-outs say. What waits for a broker that is away
lies in a file, the spool, so that it can still be told.
"""
