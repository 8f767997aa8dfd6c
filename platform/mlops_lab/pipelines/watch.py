"""One closed window: measured from the tables alone, ended in one recorded decision."""

import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pandas as pd

from mlops_lab.bootstrap import Lab
from mlops_lab.bootstrap.identities import PLATFORM
from mlops_lab.data.digest import content_digest
from mlops_lab.data.prediction import CANARY
from mlops_lab.errors import EvidenceMissing, NotEnoughData
from mlops_lab.events import Message
from mlops_lab.features import Kind
from mlops_lab.monitoring.drift import Drift, Method, Watched, plan
from mlops_lab.monitoring.report import performance_to_record
from mlops_lab.monitoring.skill import Performance, paired_loss, performance
from mlops_lab.monitoring.window import Window
from mlops_lab.pipelines.captured import days_of, labelled, labels_digest, training_rows
from mlops_lab.pipelines.feedback import take_in_feedback
from mlops_lab.pipelines.reference import read_reference
from mlops_lab.pipelines.ship import ship
from mlops_lab.pipelines.train import probabilities_of, scorer_of
from mlops_lab.registry.open_orders import ORDER, open_orders
from mlops_lab.registry.version import Assignment, Role
from mlops_lab.retraining.cooldown import Orders
from mlops_lab.retraining.decision import Decision, Outcome, Probation, WindowFacts, decide
from mlops_lab.retraining.record import from_record, to_record
from mlops_lab.telemetry import current_traceparent

FACTS_OF = {Outcome.RETRAIN: "SkillLost", Outcome.ROLLBACK: "ChampionDegraded", Outcome.DATA_INCIDENT: "DataIncidentFound"}
"""What is told when a window ends in something that others have to act on."""

PROBATION = timedelta(weeks=2)
PREDICTION = Watched("probability", Kind.NUMBER, Method.PSI, 0.2)

log = logging.getLogger(__name__)


def watch(window: Window, lab: Lab) -> Decision:
    """Measure a window and decide. The decision, its audit entry and the event that follows from it are one transaction.

    Deciding twice changes nothing: the first decision about a window stands.
    """
    history = [from_record(record) for record in lab.ledger.decisions()]
    for decision in history:
        if decision.window == window:
            return decision
    with lab.spans.span("watch window", attributes={"lab.model": lab.model, "lab.window": window.id}) as span:
        decision = _decide(window, history, lab)
        if span is not None:
            span.attributes |= {"lab.decision": decision.outcome.value, "lab.because": decision.because}
    return decision


def _decide(window: Window, history: Sequence[Decision], lab: Lab) -> Decision:
    ship(lab)
    take_in_feedback(lab)
    decision = decide(measure(window, lab), history, lab.policy)
    at, trace = decision.at, current_traceparent()
    data: dict[str, Any] = {"window": window.id, "outcome": decision.outcome.value}
    emit = [Message("WindowDecided", at, lab.model, data, id=f"decided-{window.id}", traceparent=trace)]
    if decision.outcome in FACTS_OF:
        fact = FACTS_OF[decision.outcome]
        data = {"window": window.id, "version": decision.champion, "because": decision.because}
        emit.append(Message(fact, at, lab.model, data, id=f"{fact}-{window.id}", traceparent=trace))
    lab.ledger.record_decision(window.id, to_record(decision), decision.at, PLATFORM, emit=emit)
    log.info("watch.decided", extra={"window": window.id, "outcome": decision.outcome.value, "because": decision.because})
    return decision


def measure(window: Window, lab: Lab) -> WindowFacts:
    """Everything the decision rests on, from the tables and the ledger as of the window's closing.

    The champion is measured by its own answers, whether it gave them as champion or, earlier in the week, as canary. Answers by a
    canary beside it count for the quality of the data that came in, and for nothing else here: the guard judges the canary.
    """
    at = window.closes_at
    found = labelled(lab, window.start, window.end, at)
    served = pd.concat([found.rows, found.pending], ignore_index=True)
    champion = lab.ledger.current(Role.CHAMPION)
    number = champion.version if champion else None
    own = own_answers(found.rows, number)
    return WindowFacts(
        window=window,
        champion=number,
        quality=lab.gate.check(
            window.id,
            content_digest(served[[feature.name for feature in lab.use_case.features]]),
            {"served": lab.use_case.checked_window(served)},
            lab.use_case.window_expectations(),
            gate="window",
        ),
        predictions=int((served["model_version"] == number).sum()),
        labels=len(own),
        labels_digest=labels_digest(lab, own),
        performance=_performance(own, lab),
        drift=_drift(served, champion, lab),
        probation=_probation(window, champion, own, lab),
        orders=_orders(lab),
    )


def own_answers(rows: pd.DataFrame, number: int | None) -> pd.DataFrame:
    """The answers of one version, whether it gave them as champion or as canary."""
    own: pd.DataFrame = rows[rows["model_version"] == number]
    return own


def performance_of(own: pd.DataFrame, lab: Lab) -> dict[str, Any] | None:
    """What the labels of a version's answers say, as a record; None where it cannot be measured."""
    found = _performance(own, lab)
    return None if found is None else performance_to_record(found)


def _performance(own: pd.DataFrame, lab: Lab) -> Performance | None:
    try:
        return performance(own["probability"], lab.use_case.labels(own), days_of(own), lab.seed)
    except (NotEnoughData, EvidenceMissing) as error:
        log.warning("watch.performance_not_measured", extra={"why": error.what})
        return None


def _drift(served: pd.DataFrame, champion: Assignment | None, lab: Lab) -> Drift | None:
    if champion is None or champion.version is None or served.empty:
        return None
    features = [feature for feature in lab.use_case.features if feature.name in lab.use_case.watched]
    # A canary's share is drawn at random, so what is left are the same inputs; its probabilities are not the champion's.
    answered = served[(served["variant"] != CANARY) | (served["model_version"] == champion.version)]
    current = answered.sort_values(["entity", "probability"], ignore_index=True)
    try:
        return lab.drift.compare(read_reference(champion.version, lab), current, plan(features), PREDICTION, lab.seed)
    except (NotEnoughData, EvidenceMissing) as error:
        log.warning("watch.drift_not_measured", extra={"why": error.what})
        return None


def _probation(window: Window, champion: Assignment | None, own: pd.DataFrame, lab: Lab) -> Probation | None:
    """A champion that came by promotion or override not long ago, beside the one it replaced."""
    if champion is None or champion.version is None or champion.from_version is None or champion.kind == "rollback":
        return None
    if window.closes_at - champion.at > PROBATION:
        return None
    try:
        rows = training_rows(lab, own)
        predecessor = probabilities_of(scorer_of(lab, champion.from_version), rows)
        own_answers = probabilities_of(scorer_of(lab, champion.version), rows)
        loss = paired_loss(own_answers, predecessor, rows.labels, rows.days, lab.seed)
    except (NotEnoughData, EvidenceMissing) as error:
        log.warning("watch.probation_not_measured", extra={"why": error.what})
        loss = None
    return Probation(champion.version, champion.from_version, loss)


def _orders(lab: Lab) -> Orders:
    """Retrainings ordered so far (a drill or a first training says nothing about the need for the next), and any training under way."""
    given = [fact.at for fact in lab.ledger.facts(ORDER) if fact.body["origin"] == "retrain"]
    running = open_orders(lab.ledger)
    return Orders(given=tuple(given), running=running[0].subject if running else None)
