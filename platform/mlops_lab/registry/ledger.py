"""The rules of the ledger, as pure functions: which version has which role, what served when, what state a version is in."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from mlops_lab.audit import digest_of
from mlops_lab.errors import LostTheRace, NoChampion, PromotionRefused, UnknownVersion
from mlops_lab.registry.version import Assignment, ModelVersion, Role, State

JUDGEMENT, APPROVAL, REFUSAL, BAR = "judgement", "approval", "refusal", "bar"
OF_VERSIONS = frozenset({JUDGEMENT, APPROVAL, REFUSAL, BAR})
"""Kinds of facts that speak of a version, whose number is their subject. Each has its own method of the ledger."""

DECISION, SNAPSHOT, PIN, INCIDENT = "decision", "snapshot", "pin", "incident"
TRACE = "trace"
"""Which trace an assignment was made in: its subject is the id of the assignment. Only where traces are recorded."""
ONCE_ONLY = frozenset({DECISION, SNAPSHOT, PIN, INCIDENT, "order"})
"""Kinds that have one fact per subject: a window is decided once, a batch accepted once, an order carried out once, a pin taken in and an
incident told once."""

RESTATEMENT, OVERDUE = "restatement", "overdue_outcomes"
"""What a decided window says with later labels; outcomes that have waited for their prediction for too long. One or more per subject."""

PROMOTION, ROLLBACK, OVERRIDE = "promotion", "rollback", "override"
_EVENTS = {PROMOTION: "ModelPromoted", ROLLBACK: "ModelRolledBack", OVERRIDE: "OverrideForced"}


@dataclass(frozen=True, slots=True)
class Fact:
    """Something recorded about a subject; never changed, only followed by a newer one.

    Attributes:
        id: 1, 2, 3, ... over all kinds.
        model: Whose ledger it is in.
        kind: `judgement`, `decision`, `snapshot`, ...
        subject: What it speaks of: the number of a version as text, a window, a batch.
        at: Event time.
        recorded_at: Wall time.
        by: Identity.
        why: A sentence.
        body: JSON object.
        digest: SHA-256 of the canonical JSON of the body.
    """

    id: int
    model: str
    kind: str
    subject: str
    at: datetime
    recorded_at: datetime
    by: str
    why: str
    body: Mapping[str, Any]
    digest: str


@dataclass(frozen=True, slots=True)
class Standing:
    """All that a replica has to know of a ledger, of one moment.

    Attributes:
        lines: The newest assignment of each role that ever was assigned; its `version` is None after the role was taken away.
        digests: Digest of the scorer of each version that is named in `lines` or `earlier`.
        barred: Versions that never come back by themselves.
        pins: Ids of the local pins that were taken in.
        earlier: Lines of the last few champions that a rollback may go back to, the next one first.
        traces: The `traceparent` that a line was written in, by the line's id, where one was recorded.
    """

    lines: Mapping[Role, Assignment]
    digests: Mapping[int, str]
    barred: frozenset[int] = frozenset()
    pins: frozenset[str] = frozenset()
    earlier: tuple[Assignment, ...] = ()
    traces: Mapping[int, str] = field(default_factory=dict)


TRIALS = (Role.CANARY, Role.SHADOW)
"""Roles in which a version is tried beside the champion."""


def current(assignments: Iterable[Assignment], role: Role) -> Assignment | None:
    """The newest assignment of a role; its `version` is None after the role was taken away. None before the first."""
    return max((each for each in assignments if each.role == role), key=lambda each: each.id, default=None)


def served_at(assignments: Iterable[Assignment], role: Role, at: datetime) -> Assignment | None:
    """The assignment in force at a moment of event time: the last one recorded whose event time is not behind it."""
    return current((each for each in assignments if each.at <= at), role)


def version_of(model: str, versions: Sequence[ModelVersion], number: int) -> ModelVersion:
    """The version of that number. Raises UnknownVersion, with the numbers there are."""
    for version in versions:
        if version.number == number:
            return version
    raise UnknownVersion.of(model, number, [version.number for version in versions])


def champion_of(model: str, assignments: Iterable[Assignment]) -> Assignment:
    """The assignment of the present champion. Raises NoChampion before the first, and after it was taken away."""
    found = current(assignments, Role.CHAMPION)
    if found is None or found.version is None:
        raise NoChampion(f"{model} has no champion.", "approve a judged version and promote it; `lab train` makes one.")
    return found


def identity_key(name: str) -> str:
    """The form in which two spellings of one identity are the same."""
    return name.strip().casefold()


def event_of(role: Role, kind: str) -> str:
    """What an assignment is called in events and in the audit. Raises ValueError where the kind is none."""
    if kind not in _EVENTS:
        raise ValueError(f"'{kind}' is no kind of assignment: use one of {', '.join(_EVENTS)}")
    return _EVENTS[kind] if role == Role.CHAMPION or kind == OVERRIDE else "RoleAssigned"


def recorded(kind: str) -> str:
    """What recording a fact of a kind is called in the audit: `quarantine_entry` becomes `QuarantineEntryRecorded`."""
    return "".join(part.capitalize() for part in kind.split("_")) + "Recorded"


def rivals(kind: str) -> frozenset[str]:
    """The kinds whose latest fact about a subject a new one is compared with: approval and refusal undo each other."""
    return frozenset({APPROVAL, REFUSAL}) if kind in (APPROVAL, REFUSAL) else frozenset({kind})


def says(fact: Fact, kind: str, body: Mapping[str, Any], at: datetime, by: str, why: str) -> bool:
    """Whether a fact says just this, so that saying it again is a repetition."""
    return (fact.kind, fact.digest, fact.at, fact.by, fact.why) == (kind, digest_of(dict(body)), at, by, why)


def barred(facts: Iterable[Fact]) -> frozenset[int]:
    """Versions that never come back by themselves."""
    return frozenset(int(fact.subject) for fact in facts if fact.kind == BAR)


def rollback_target(model: str, assignments: Sequence[Assignment], facts: Iterable[Fact], to: int | None = None) -> int:
    """The version to go back to: the last champion before the present one that is neither it nor barred; or the one chosen.

    Raises:
        NoChampion: There is none to leave.
        PromotionRefused: There is none to go back to, or the one chosen is the present one, is barred, or never was champion.
    """
    leaving = champion_of(model, assignments).version
    out = barred(facts) | {leaving}
    earlier = ways_back(assignments, out)
    if to is not None:
        if all(each.version != to for each in earlier):
            why = "it is barred" if to in out - {leaving} else "it has it already" if to == leaving else "it never was champion"
            known = ", ".join(sorted({str(each.version) for each in earlier})) or "none"
            raise PromotionRefused.because(model, to, why, f"choose one of those that a rollback can go to: {known}.")
        return to
    if not earlier:
        raise PromotionRefused(
            f"{model} has no earlier champion to go back to from version {leaving}.",
            "approve another version and promote it, or force one with an override.",
        )
    target = earlier[0].version
    assert target is not None  # filtered above
    return target


def ways_back(assignments: Sequence[Assignment], out: Collection[int | None]) -> list[Assignment]:
    """The newest line of each version that was champion and is not out (barred, or champion now), the newest first."""
    newest = {each.version: each for each in assignments if each.role == Role.CHAMPION and each.version is not None}
    return sorted((line for version, line in newest.items() if version not in out), key=lambda line: line.id, reverse=True)


def ended_trials(assignments: Sequence[Assignment], versions: Collection[int | None]) -> list[Assignment]:
    """The lines of canary and shadow that name one of these versions: what took the traffic, or may not have it, is not on trial."""
    found = [current(assignments, role) for role in TRIALS]
    return [line for line in found if line is not None and line.version is not None and line.version in versions]


def require_unchanged(assignments: Iterable[Assignment], role: Role, replacing: int | None) -> Assignment | None:
    """Compare before set: the present assignment of the role, if it is the one the caller has seen.

    Raises:
        LostTheRace: It is another one by now.
    """
    now = current(assignments, role)
    if (now.id if now else None) != replacing:
        raise lost(role, now)
    return now


def lost(role: Role, now: Assignment | None) -> LostTheRace:
    """The error that names who has the role now."""
    return LostTheRace.to(role, f"version {now.version} by '{now.by}' (assignment {now.id}, {now.kind}: {now.why})" if now else "nobody")


def require_assignable(
    model: str,
    assignments: Sequence[Assignment],
    role: Role,
    number: int | None,
    kind: str,
    weight: float,
    facts: Sequence[Fact],
    proposers: frozenset[str],
) -> None:
    """Whether a version may have a role.

    Args:
        model: For the message.
        assignments: All so far.
        role: What it is to be.
        number: The version, None to take the role away.
        kind: `promotion` wants an approval, `rollback` a version that was champion before, `override` passes even a bar. None of them
            makes a barred version or the champion a canary or shadow.
        weight: Share of requests, 0 to 1.
        facts: All facts of the kinds in `OF_VERSIONS`.
        proposers: Who registered or ordered the version, as `identity_key`: their approval does not count.

    Raises:
        PromotionRefused: It may not.
        ValueError: The kind or the weight is not one.
    """
    event_of(role, kind)
    if not 0 <= weight <= 1 or (role == Role.CHAMPION and weight != 1):
        raise ValueError(f"weight {weight} is not a share for a {role}: 1 for a champion, else 0 to 1")
    if role in TRIALS and number is not None:
        _require_triable(model, assignments, role, number, facts)
    if kind == OVERRIDE:
        return
    if number is None:
        if role == Role.CHAMPION:
            what = f"{model} would be left without a champion."
            raise PromotionRefused(what, "promote another version instead, or force it with an override.")
        return
    if number in barred(facts):
        raise PromotionRefused.because(model, number, "it is barred", "choose another version, or force this one with an override.")
    if kind == ROLLBACK and all(each.version != number for each in assignments if each.role == Role.CHAMPION):
        raise PromotionRefused.because(model, number, "it never was champion, so nothing rolls back to it", "promote it instead.")
    if role == Role.CHAMPION and kind == PROMOTION:
        verdict = _latest(facts, number, (APPROVAL, REFUSAL))
        if verdict is None:
            next_step = "have it judged, then approved by somebody who did not order it."
            raise PromotionRefused.because(model, number, "nobody approved it", next_step)
        if verdict.kind == REFUSAL:
            raise PromotionRefused.because(model, number, f"'{verdict.by}' refused it: {verdict.why}", "train another one.")
        if identity_key(verdict.by) in proposers:
            raise PromotionRefused.because(model, number, f"'{verdict.by}' ordered it and approved it", "have somebody else approve it.")


def _require_triable(model: str, assignments: Sequence[Assignment], role: Role, number: int, facts: Sequence[Fact]) -> None:
    """An override passes a bar for the champion's place only: to try a version that may not win has no use."""
    if number in barred(facts):
        raise PromotionRefused(f"{model} version {number} may not be {role}: it is barred.", "choose another version, or train one.")
    champion = current(assignments, Role.CHAMPION)
    if champion is not None and champion.version == number:
        raise PromotionRefused(
            f"{model} version {number} may not be {role}: it is the champion, and would be compared with itself.",
            "choose another version: `lab history` lists them, `lab train` makes one.",
        )


def state_of(number: int, assignments: Iterable[Assignment], facts: Iterable[Fact]) -> State:
    """The state of a version, from all that is recorded about it.

    A bar stays. A champion, and a canary with a share of the requests, is serving. Otherwise the latest fact decides, and
    being replaced as champion is one: `retired`, until it is judged or approved anew.
    """
    life = sorted((fact for fact in facts if fact.kind in OF_VERSIONS and fact.subject == str(number)), key=lambda fact: fact.id)
    if any(fact.kind == BAR for fact in life):
        return State.BARRED
    assignments = list(assignments)
    holders = (current(assignments, Role.CHAMPION), current(assignments, Role.CANARY))
    if any(each and each.version == number and each.weight > 0 for each in holders):
        return State.SERVING
    left = [each.recorded_at for each in assignments if each.role == Role.CHAMPION and each.from_version == number]
    if left and (not life or left[-1] >= life[-1].recorded_at):
        return State.RETIRED
    states = {JUDGEMENT: State.JUDGED, APPROVAL: State.APPROVED, REFUSAL: State.REFUSED}
    return states[life[-1].kind] if life else State.PROPOSED


def _latest(facts: Iterable[Fact], number: int, kinds: Sequence[str]) -> Fact | None:
    of_version = (fact for fact in facts if fact.kind in kinds and fact.subject == str(number))
    return max(of_version, key=lambda fact: fact.id, default=None)
