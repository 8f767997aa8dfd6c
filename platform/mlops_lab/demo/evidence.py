"""Did each act really happen? Recomputed from the stores alone; one record missing or changed makes the acts that rest on it fail."""

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from mlops_lab.bootstrap.identities import APPROVER, TRAINER
from mlops_lab.data.batch_files import read_batch
from mlops_lab.data.digest import content_digest
from mlops_lab.demo.stores import Stores
from mlops_lab.errors import LabError
from mlops_lab.monitoring.skill import performance
from mlops_lab.monitoring.window import Window
from mlops_lab.pipelines.captured import days_of
from mlops_lab.registry.judge import FirstRows, PairedRows, judge, judge_first
from mlops_lab.registry.version import State
from mlops_lab.retraining.decision import Decision, Outcome
from mlops_lab.scoring.keys import KeyRing
from mlops_lab.scoring.manifest import check

AGREED_WITHIN_S = 10.0
DECAY_TO_BETTER_S = {"workers": 60.0, "deployments": 120.0}
"""Where a server starts each training as a process of its own, that process imports everything anew."""

Findings = Iterator[tuple[str, bool, Any]]
"""What must hold, whether it does, and the number or name that shows it."""


@dataclass(frozen=True)
class Act:
    """One act, examined.

    Attributes:
        id: 1 to 6.
        passed: Every claim holds.
        seconds: Wall seconds between its first and last record.
        claims: Sentence, verdict and what was found, in order.
    """

    id: int
    passed: bool
    seconds: float
    claims: tuple[tuple[str, bool, Any], ...]

    @property
    def broken(self) -> list[str]:
        """The claims that do not hold, with what was found."""
        return [f"{sentence} (found {found})" for sentence, holds, found in self.claims if not holds]


def examine(stores: Stores) -> list[Act]:
    """All six acts. A claim that cannot even be checked does not hold."""
    shared = list(_safely(_untouched, stores))
    acts = []
    for number, claims, span in ACTS:
        found = [*shared, *_safely(claims, stores)]
        acts.append(Act(number, all(holds for _, holds, _ in found), _seconds(span, stores), tuple(found)))
    return acts


def _safely(claims: Callable[[Stores], Findings], stores: Stores) -> Findings:
    try:
        yield from claims(stores)
    except (LabError, sqlite3.Error, LookupError, ValueError, TypeError, OSError, RuntimeError, AssertionError) as error:
        # RuntimeError is what the StopIteration of a record that is not there has become in a generator
        yield "the stores can be read", False, f"{type(error).__name__}: {error}"


def _untouched(s: Stores) -> Findings:
    """What every act rests on: nothing was taken out of, put into, or changed in the stores behind the platform's back."""
    broken = s.audit_break
    yield "the audit trail verifies", broken is None, "no break" if broken is None else f"entry {broken.seq}: {broken.why}"
    yield "every row of the ledger is accounted for by the audit", not s.unaccounted, s.unaccounted[:3] or "no difference"
    yield "no message was taken off the bus", not s.bus_gaps, s.bus_gaps or "no gap"
    failed = s.facts_of("order_failed")
    unexpected = [fact.subject for fact in failed if fact.body["type"] != "IngestBatch"]
    unexpected += [fact.subject for fact in s.facts_of("fact_failed")]
    yield "nothing but the order of a refused batch failed", not unexpected, unexpected or "none"


def _history(s: Stores) -> Findings:
    snapshots = s.lab.snapshots.all()
    weeks = [snapshot.batch for snapshot in snapshots]
    whole = len(set(weeks)) == len(weeks) >= 3 and _contiguous(sorted(weeks))
    yield "every batch of the history was accepted, once", whole, f"{len(weeks)} weeks"
    for table in sorted({name for snapshot in snapshots for name in snapshot.rows}):
        stored, recorded = len(s.lab.snapshots.read(table)), sum(snapshot.rows[table] for snapshot in snapshots)
        yield f"table {table} holds exactly the accepted rows", stored == recorded, stored
    verdicts = s.facts_of("gate_verdict")
    accepted = {fact.body["digest"] for fact in verdicts if fact.body["accepted"]}
    yield "each accepted batch has its verdict", all(snapshot.digest in accepted for snapshot in snapshots), len(accepted)
    refused = [fact for fact in verdicts if not fact.body["accepted"]]
    yield "one poisoned batch was refused", len(refused) == 1, [fact.body["subject"] for fact in refused]
    kept = s.lab.quarantine.get(refused[0].body["subject"])
    reasons = [finding["expectation"] for finding in kept.verdict["findings"] if finding["blocking"]]
    week = Window.of_week(kept.batch)
    raw = read_batch(kept.raw, s.lab.use_case.tables, week.id, week.start, week.end)
    unchanged = raw.digest == kept.digest == refused[0].body["digest"]
    yield "it waits in quarantine as it came, with reasons", bool(reasons) and unchanged, reasons
    yield "the reason is the unit", any("humidity fits temperature" in reason for reason in reasons), reasons[:1]
    repaired = [snapshot for snapshot in snapshots if snapshot.batch == refused[0].body["subject"]]
    yield "the repaired batch was accepted", len(repaired) == 1 and repaired[0].digest != kept.digest, [one.id for one in repaired]


def _first_champion(s: Stores) -> Findings:
    first = min(s.versions)
    version, tags = s.versions[first], s.catalog_version(first)
    runs = [run.name for run in s.flow_runs if run.name.startswith("first") and run.state == "COMPLETED"]
    yield "a Prefect flow trained it", bool(runs), runs
    same = (tags["scorer_sha256"], tags["data_sha256"]) == (version.scorer_sha256, version.data_sha256)
    yield "the catalog describes the same model", same, tags["sources"]
    yield from _package(s, first)
    yield from _judgement(s, first, "promote")
    approvals = s.facts_of("approval", str(first))
    approvers = [fact.by for fact in approvals]
    yield "somebody other than the trainer approved it", approvers == [APPROVER] and version.registered_by == TRAINER, approvers
    refused = [fact.by for fact in s.facts_of("refused_approval", str(first))]
    yield "the trainer's own approval was refused", TRAINER in refused, refused
    promotion = s.assignments[0]
    yield "it was promoted", (promotion.version, promotion.kind) == (first, "promotion"), f"assignment {promotion.id}"


def _service(s: Stores) -> Findings:
    answered, asked, probes = s.journal.ids("predict"), s.tally("predict"), s.tally("probe")
    logged = s.predictions["prediction_id"]
    attempts, failed = sum(s.tally(kind).attempts for kind in KINDS), sum(s.tally(kind).failed for kind in KINDS)
    yield "no request failed", failed == 0 < asked.attempts, f"{failed} of {attempts} attempts"
    known = set(answered) | set(s.journal.ids("probe"))
    complete = logged.is_unique and set(logged) == known
    yield "every answer is in the table once, and none that was not asked for", complete, f"{len(logged)} answers"
    yield "as many live answers as questions", len(s.live) == asked.rows == len(answered), f"{asked.rows} live, {probes.rows} probes"
    told = len(s.told) == len(s.live) and set(s.told) == set(s.live["prediction_id"])
    yield "every live answer was told on the bus, once", told, f"{len(s.told)} told"
    events = s.outcomes["event_id"]
    yield "every accepted outcome is in the table", set(events) == set(s.journal.ids("feedback")), f"{events.nunique()} outcomes"
    moments = s.live.sort_values("answered_at", kind="stable")["moment"]
    backwards = float((moments.diff().dt.total_seconds() < -3600).mean())
    yield "questions came in time order", backwards == 0, f"{backwards:.2%} more than an hour back"
    late = (s.labelled.rows["known_at"] - s.labelled.rows["moment"]).dt.total_seconds() / 3600
    yield "labels arrived hours later", bool(late.min() > 0) and late.median() > 1, f"median {late.median():.1f} h, last {late.max():.1f} h"
    resent = len(s.journal.ids("feedback")) - events.nunique()
    corrected = s.labelled.conflicting
    yield "outcomes came twice, corrected, and out of order", resent > 0 and corrected > 0, f"{resent} twice, {corrected} corrected"
    yield "labels cover the answers", s.labelled.coverage > 0.9, round(s.labelled.coverage, 4)


def _watch(s: Stores) -> Findings:
    names = [decision.window.id for decision in s.decisions]
    yield "each week has one decision", len(names) >= 3 and _contiguous(names), f"{names[0]} to {names[-1]}"
    asked = sorted({Window.containing(moment.to_pydatetime()).id for moment in pd.unique(s.live["moment"].dt.floor("D"))})
    reached = s.journal.cursor()
    closed = [name for name in asked if reached is not None and Window.of_week(name).closes_at <= reached]
    yield "every closed week with answers was decided", closed == names, len(closed)
    off = [decision.window.id for decision in s.decisions if not _remeasured(s, decision)]
    yield "each recorded skill is what the tables give", not off, off or f"{len(names)} measured again"
    calm = [d.window.id for d in s.decisions if d.outcome == Outcome.WATCH and drifted_columns(d) and not d.counts]
    yield "weeks whose inputs moved without loss of skill were not retrained", bool(calm), f"{len(calm)} weeks, first {calm[:1]}"


def _retraining(s: Stores) -> Findings:
    lost = [decision for decision in s.decisions if decision.outcome == Outcome.RETRAIN]
    yield "lost skill was found", bool(lost), [decision.window.id for decision in lost]
    wanted = {f"train-retrain-{decision.window.id}" for decision in lost}
    ordered = {fact.subject for fact in s.facts_of("order") if fact.body["origin"] == "retrain"}
    yield "each loss ordered one training, and nothing else did", wanted == ordered, sorted(ordered)
    retrained = [version for version in s.versions.values() if version.origin == "retrain"]
    completed = [run.name for run in s.flow_runs if run.name.startswith("retrain") and run.state == "COMPLETED"]
    yield "each order ran as a Prefect flow", len(completed) == len(wanted), completed
    yield "each order made one version", len(retrained) == len(wanted), [version.number for version in retrained]
    for version in retrained:
        tags = s.catalog_version(version.number)
        learned = "delta:predictions@" in tags["sources"] and "delta:outcomes@" in tags["sources"]
        yield f"version {version.number} learned from captured production data", learned, tags["sources"]
        yield from _package(s, version.number)
        judged = s.lab.ledger.judgement(version.number) or {}
        yield from _judgement(s, version.number, judged.get("outcome", ""))
    promoted = [one for one in s.assignments if one.kind == "promotion" and one.version in {version.number for version in retrained}]
    yield "a better model took the traffic", bool(promoted), [one.version for one in promoted]
    for one in promoted:
        assert one.version is not None
        gained = (s.lab.ledger.judgement(one.version) or {})["figures"]["brier_gain_low"]
        yield f"version {one.version} is better on weeks that neither had seen", gained > 0, f"Brier gain at least {gained:.4f}"
    seconds, limit = decay_to_better_s(s), DECAY_TO_BETTER_S[s.lab.settings.orchestration.mode]
    yield "a better model answers soon after the loss was found", bool(seconds) and max(seconds) < limit, seconds


def _drill(s: Stores) -> Findings:
    bad = next(version for version in s.versions.values() if version.origin == "drill")
    yield from _package(s, bad.number)
    yield from _judgement(s, bad.number, "keep")
    forced = next(one for one in s.assignments if one.version == bad.number)
    yield "it got past by an override that is on record", forced.kind == "override" and bool(forced.why), forced.why
    answers = int((s.live["model_version"] == bad.number).sum())
    yield "it really answered", answers > 0, answers
    rolled = next(one for one in s.assignments if one.kind == "rollback" and one.replaces == forced.id)
    decided = [decision for decision in s.decisions if decision.outcome == Outcome.ROLLBACK]
    yield "the watch found it", len(decided) == 1 and decided[0].champion == bad.number, decided[0].because
    yield "the version before took over again", rolled.version == forced.from_version, rolled.version
    state = s.lab.ledger.state(bad.number)
    yield "the bad version is barred", state == State.BARRED, str(state)
    assert rolled.version is not None
    answered = s.first_answer_by(rolled.version, rolled.recorded_at)
    after = None if answered is None else (answered - rolled.recorded_at).total_seconds()
    yield "ledger and service agreed within seconds", after is not None and after < AGREED_WITHIN_S, after
    champion = s.assignments[-1].version
    yield "ledger and MLflow alias agree", s.lab.catalog.alias() == champion, f"version {champion}"


def drifted_columns(decision: Decision) -> list[str]:
    """The inputs that a decision says have moved."""
    columns = (decision.evidence.get("drift") or {}).get("columns", [])
    return [column["name"] for column in columns if column["drifted"]]


def decay_to_better_s(s: Stores) -> list[float]:
    """Per promoted retraining: wall seconds from the decision that found the loss to the first answer by the better model."""
    seconds = []
    for one in s.assignments:
        if one.kind != "promotion" or one.version is None or s.versions[one.version].origin != "retrain":
            continue
        found = next(fact for fact in s.facts_of("decision") if fact.body["outcome"] == Outcome.RETRAIN and fact.at == one.at)
        answered = s.first_answer_by(one.version, found.recorded_at)
        seconds.append(float("inf") if answered is None else round((answered - found.recorded_at).total_seconds(), 2))
    return seconds


KINDS = ("predict", "feedback", "probe")


def _contiguous(names: list[str]) -> bool:
    windows = [Window.of_week(name) for name in names]
    return all(after.before() == before for before, after in pairwise(windows))


def _remeasured(s: Stores, decision: Decision) -> bool:
    """The recorded performance, computed again from the tables as they were at the window's closing."""
    recorded = decision.evidence.get("performance")
    rows = s.labelled_at(decision.window).rows
    own = rows[rows["model_version"] == decision.champion]
    if recorded is None:
        return bool(len(own) == decision.evidence["labels"])
    found = performance(own["probability"], s.lab.use_case.labels(own), days_of(own), s.lab.seed)
    again = (found.brier, found.unexplained.mean, found.unexplained.low)
    before = (recorded["brier"], recorded["unexplained"]["mean"], recorded["unexplained"]["low"])
    counted: list[Any] = [found.n, recorded["n"], decision.evidence["labels"]]
    return bool(np.allclose(again, before, atol=1e-9)) and len(set(counted)) == 1


def _package(s: Stores, number: int) -> Findings:
    version = s.versions[number]
    package = s.lab.packages.get(version.scorer_sha256)
    manifest = check(*package, KeyRing(s.lab.keys))
    described = (manifest.scorer_sha256, manifest.data_sha256) == (version.scorer_sha256, version.data_sha256)
    catalogued = s.lab.catalog.package(number).scorer == package.scorer
    yield f"version {number}'s package is signed and unchanged", described and catalogued, version.scorer_sha256[:12]


def _judgement(s: Stores, number: int, outcome: str) -> Findings:
    """The judgement, made again from the rows that were kept as its evidence."""
    record = s.lab.ledger.judgement(number)
    assert record is not None
    kept = record["evidence"]
    rows = pd.read_parquet(s.lab.home / kept["file"])
    yield f"the rows that version {number} was judged on are unchanged", content_digest(rows) == kept["sha256"], kept["rows"]
    labels, new = rows["label"].to_numpy(dtype=np.bool_), rows["challenger"].to_numpy()
    days = rows["moment"].to_numpy(dtype="datetime64[D]")
    slices = {name: rows[name].to_numpy() for name in s.lab.use_case.slices}
    latency_us = 0.0  # wall time cannot be measured again; the recorded check stands
    if record["champion"] is None:
        again = judge_first(FirstRows(labels, new, days, slices, latency_us), s.lab.limits, s.lab.seed)
    else:
        again = judge(PairedRows(labels, rows["champion"].to_numpy(), new, days, slices, latency_us), s.lab.limits, s.lab.seed)
    slow = any(not c["passed"] for c in record["checks"] if "budget" in c["name"])
    expected = "keep" if slow else again.outcome
    same = record["outcome"] == outcome == expected
    yield f"version {number} was judged '{outcome}', and the evidence gives the same again", same, record["because"]


def _seconds(span: Callable[[Stores], list[Any]], s: Stores) -> float:
    try:
        moments = span(s)
    except (LabError, LookupError, ValueError, TypeError, OSError, StopIteration):
        return 0.0
    return round((max(moments) - min(moments)).total_seconds(), 1) if moments else 0.0


def _recorded(s: Stores, *kinds: str) -> list[Any]:
    return [fact.recorded_at for fact in s.facts if fact.kind in kinds]


def _retraining_span(s: Stores) -> list[Any]:
    made = {number for number, version in s.versions.items() if version.origin == "retrain"}
    ordered = [fact.recorded_at for fact in s.facts_of("order") if fact.body["origin"] == "retrain"]
    return ordered + [fact.recorded_at for fact in s.facts_of("judgement") if int(fact.subject) in made]


def _drill_span(s: Stores) -> list[Any]:
    ordered = [fact.recorded_at for fact in s.facts_of("order") if fact.body["origin"] == "drill"]
    return ordered + [one.recorded_at for one in s.assignments if one.kind == "rollback"]


ACTS: tuple[tuple[int, Callable[[Stores], Findings], Callable[[Stores], list[Any]]], ...] = (
    (1, _history, lambda s: _recorded(s, "gate_verdict", "snapshot")),
    (2, _first_champion, lambda s: [s.facts_of("order")[0].recorded_at, s.assignments[0].recorded_at]),
    (3, _service, lambda s: [s.live["answered_at"].min().to_pydatetime(), s.live["answered_at"].max().to_pydatetime()]),
    (4, _watch, lambda s: _recorded(s, "decision")),
    (5, _retraining, _retraining_span),
    (6, _drill, _drill_span),
)
