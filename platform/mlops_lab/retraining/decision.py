"""One closed window, one decision. Pure. Whatever is missing, or contradicts itself, never gives ok or retrain."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from mlops_lab.gates.verdict import Verdict
from mlops_lab.monitoring.drift import Drift
from mlops_lab.monitoring.interval import Interval
from mlops_lab.monitoring.report import drift_sentence, drift_to_record, interval_to_record, performance_to_record
from mlops_lab.monitoring.skill import Performance
from mlops_lab.monitoring.window import Window
from mlops_lab.retraining.cooldown import Orders, held_back
from mlops_lab.retraining.policy import Policy


class Outcome(StrEnum):
    """What a window ends in."""

    OK = "ok"
    WATCH = "watch"
    RETRAIN = "retrain"
    ROLLBACK = "rollback"
    DATA_INCIDENT = "data_incident"
    NOT_ENOUGH_DATA = "not_enough_data"


@dataclass(frozen=True, slots=True)
class Probation:
    """A champion promoted within the last two windows, beside the version it took over from.

    Attributes:
        version: The version on probation.
        predecessor: The version a rollback would bring back.
        loss: `paired_loss` of version against predecessor on the same labelled rows; None where it could not be measured.
    """

    version: int
    predecessor: int
    loss: Interval | None


@dataclass(frozen=True, slots=True)
class WindowFacts:
    """What is known of a closed window. None says that something was not, or could not be, measured.

    Attributes:
        window: The window; it is decided at `window.closes_at`.
        champion: Version that is champion at that moment.
        quality: The window gate's verdict; its subject is the window's id.
        predictions: Live answers of the champion whose moment lies in the window.
        labels: Those of them that have a label by `closes_at`.
        performance: Of those labelled answers only: the answers of an earlier champion say nothing about this one.
        drift: The window's features and answers against the champion's reference.
        probation: None if the champion has been serving for longer, or has no predecessor.
        orders: Training orders so far.
        labels_digest: Of the labels that the performance rests on: what arrives later shows.
    """

    window: Window
    champion: int | None
    quality: Verdict | None
    predictions: int
    labels: int
    performance: Performance | None
    drift: Drift | None
    probation: Probation | None = None
    orders: Orders | None = None
    labels_digest: str | None = None

    @property
    def coverage(self) -> float:
        """Share of answers that have their label, 0 to 1; 0 without answers."""
        return self.labels / self.predictions if self.predictions > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Decision:
    """How one window ended.

    Attributes:
        window: The window.
        outcome: One of six.
        because: A sentence for a person.
        champion: The version that was judged; None without one.
        counts: True if the window counts towards retraining that version.
        evidence: JSON object: the numbers it rests on and the digest of the policy.
    """

    window: Window
    outcome: Outcome
    because: str
    champion: int | None
    counts: bool
    evidence: dict[str, Any] = field(default_factory=dict)

    @property
    def at(self) -> datetime:
        """Event time of the decision."""
        return self.window.closes_at


def decide(facts: WindowFacts, history: Sequence[Decision], policy: Policy) -> Decision:
    """End a window in one decision.

    In this order: a broken feed is a data incident and trains nothing; too little to go by; a champion on probation that is worse than
    its predecessor is rolled back; unexplained loss in k of n windows, this one among them, orders a training unless something holds it
    back; moved inputs are watched.

    Args:
        facts: What was measured.
        history: Earlier decisions, in any order; of two about one window the last in the sequence counts. Decisions about this window or
            later ones are left out, so that deciding again gives the same. Only windows judged under the present champion count, so a
            promotion starts afresh and a rollback takes up where the restored version stood.
        policy: The frozen numbers.
    """
    counted = counted_windows(facts, history, policy)
    counts = facts.window.id in counted

    def end(outcome: Outcome, because: str) -> Decision:
        return Decision(facts.window, outcome, because, facts.champion, counts, _evidence(facts, counted, policy))

    if facts.quality is not None and facts.quality.reasons:
        return end(Outcome.DATA_INCIDENT, _incident(facts.quality))
    if (missing := _missing(facts, policy)) is not None:
        return end(Outcome.NOT_ENOUGH_DATA, missing)
    assert facts.performance is not None  # `_missing` has seen to it
    unproven = None
    if (trial := facts.probation) is not None:
        if trial.version != facts.champion or trial.loss is None or not _rests_on_enough(trial.loss, policy):
            unproven = f"version {facts.champion} is on probation, but was not compared with its predecessor on enough rows"
        elif trial.loss.above_zero:
            return end(
                Outcome.ROLLBACK,
                f"Version {trial.version} loses {trial.loss} more Brier score than version {trial.predecessor} on the same answers.",
            )
    unexplained = f"unexplained loss {facts.performance.unexplained}"
    if counts:
        often = f"{unexplained} lies above 0, in {len(counted)} of the last {policy.n} windows ({', '.join(counted)})"
        if len(counted) < policy.k:
            return end(Outcome.WATCH, f"{_capital(often)}; {policy.k} are needed to retrain.")
        if (hold := held_back(facts.orders, _ordered(facts, history), facts.window.closes_at, policy)) is not None:
            return end(Outcome.WATCH, f"{_capital(often)}, but {hold}.")
        return end(Outcome.RETRAIN, f"{_capital(often)}.")
    fine = f"skill is as the model expects: {unexplained} does not lie above 0"
    if unproven is not None:
        return end(Outcome.WATCH, f"{_capital(fine)}; {unproven}.")
    if facts.drift is None or not facts.drift.columns or not facts.drift.rows or not facts.drift.reference_rows:
        return end(Outcome.WATCH, f"{_capital(fine)}; inputs were not compared with the reference.")
    if facts.drift.unmeasured:
        return end(Outcome.WATCH, f"{_capital(fine)}; no value to compare in {', '.join(facts.drift.unmeasured)}.")
    if facts.drift.drifted or facts.drift.prediction.drifted:
        return end(Outcome.WATCH, f"Inputs moved and skill did not: {drift_sentence(facts.drift)}; {fine}.")
    return end(Outcome.OK, f"{_capital(fine)}; {drift_sentence(facts.drift)}.")


def counted_windows(facts: WindowFacts, history: Sequence[Decision], policy: Policy) -> tuple[str, ...]:
    """Ids of those of the last n windows, this one included, that count towards retraining the present champion, oldest first."""
    oldest = facts.window.before(policy.n - 1)
    last = {decision.window: decision for decision in history if oldest <= decision.window < facts.window}
    counted = [w.id for w, d in sorted(last.items()) if d.counts and d.champion is not None and d.champion == facts.champion]
    clean = facts.quality is not None and facts.quality.accepted and _missing(facts, policy) is None
    if clean and facts.performance is not None and facts.performance.counts:
        counted.append(facts.window.id)
    return tuple(counted)


def _incident(quality: Verdict) -> str:
    first = quality.reasons[0]
    return (
        f"{len(quality.reasons)} of {len(quality.findings)} expectations about the window's data failed, first '{first.expectation}' "
        f"({first.observed or f'{first.failed_rows} of {first.rows} rows'}); nothing is trained on a broken feed."
    )


def _missing(facts: WindowFacts, policy: Policy) -> str | None:
    """What keeps the window from being judged, as a sentence; None if nothing does."""
    quality, found = facts.quality, facts.performance
    if facts.champion is None:
        return "There is no champion to judge."
    if quality is None or not quality.findings:
        return "The window's data was not checked by the gate."
    if quality.subject != facts.window.id:
        return f"The gate's verdict is about {quality.subject}, not about {facts.window.id}."
    if facts.predictions <= 0:
        return "The champion gave no answers in this window."
    if not 0 <= facts.labels <= facts.predictions:
        return f"{facts.labels} labels for {facts.predictions} answers cannot be: the join is wrong."
    if found is None:
        return f"Performance was not measured: {facts.labels} of {facts.predictions} answers have a label."
    if facts.coverage < policy.min_coverage:
        return f"Only {facts.coverage:.0%} of {facts.predictions} answers have a label; {policy.min_coverage:.0%} are needed."
    if found.n != facts.labels:
        return f"Performance was measured on {found.n} rows, but {facts.labels} answers have a label."
    if not _rests_on_enough(found.unexplained, policy):
        return (
            f"{found.unexplained.rows} labels of {found.unexplained.days} days are too few; "
            f"{policy.min_labels} of {policy.min_days} days are needed."
        )
    return None


def _rests_on_enough(interval: Interval, policy: Policy) -> bool:
    return interval.rows >= policy.min_labels and interval.days >= policy.min_days


def _ordered(facts: WindowFacts, history: Sequence[Decision]) -> list[datetime]:
    return [decision.at for decision in history if decision.outcome is Outcome.RETRAIN and decision.window < facts.window]


def _evidence(facts: WindowFacts, counted: tuple[str, ...], policy: Policy) -> dict[str, Any]:
    trial = facts.probation
    return {
        "policy": policy.digest(),
        "quality": None if facts.quality is None else {"accepted": facts.quality.accepted, "digest": facts.quality.digest},
        "predictions": facts.predictions,
        "labels": facts.labels,
        "labels_digest": facts.labels_digest,
        "coverage": facts.coverage,
        "performance": None if facts.performance is None else performance_to_record(facts.performance),
        "drift": None if facts.drift is None else drift_to_record(facts.drift),
        "probation": None
        if trial is None
        else {
            "version": trial.version,
            "predecessor": trial.predecessor,
            "loss": None if trial.loss is None else interval_to_record(trial.loss),
        },
        "counted": list(counted),
    }


def _capital(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]
