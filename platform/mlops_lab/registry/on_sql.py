"""The ledger in an SQL database, each row in one transaction with its audit entry and its messages."""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Table, func, select

from mlops_lab.audit import digest_of
from mlops_lab.audit.on_sql import SqlAudit, SqlRecording, recorded_rows
from mlops_lab.errors import ApprovalRefused, LostTheRace, VersionTaken
from mlops_lab.events import CONTROL, Message
from mlops_lab.events.on_sql import OUTBOX, reading
from mlops_lab.registry import ledger
from mlops_lab.registry.ledger import (
    APPROVAL,
    BAR,
    DECISION,
    JUDGEMENT,
    OF_VERSIONS,
    ONCE_ONLY,
    OVERRIDE,
    PIN,
    PROMOTION,
    REFUSAL,
    ROLLBACK,
    SNAPSHOT,
    TRACE,
    Fact,
)
from mlops_lab.registry.on_sql_history import ASSIGNMENTS, FACTS, VERSIONS, SqlHistory
from mlops_lab.registry.rows import compare, to_row
from mlops_lab.registry.version import Assignment, ModelVersion, Role
from mlops_lab.telemetry import current_traceparent

log = logging.getLogger(__name__)

_EVENT_OF = {JUDGEMENT: "VersionJudged", APPROVAL: "VersionApproved", REFUSAL: "VersionRefused", BAR: "VersionBarred"}


class _AlreadyThere(Exception):
    """Leaves a recording without a trace: what was to be written is written."""


class _FactThere(_AlreadyThere):
    """The same, with the fact that is there."""

    def __init__(self, fact: Fact) -> None:
        super().__init__()
        self.fact = fact


class SqlLedger(SqlHistory):
    """The `Ledger` of one model in the database of an audit trail. Safe for several processes and threads."""

    def __init__(self, trail: SqlAudit, model: str) -> None:
        super().__init__(trail.engine, model)
        self._trail = trail

    def add_version(self, version: ModelVersion, actor: str) -> None:
        if version.model != self._model:
            raise ValueError(f"this is the ledger of {self._model}, not of {version.model}")
        name = self._name(version.number)
        try:
            with self._trail.recording(
                actor=actor, action="ModelRegistered", subject=name, reason=version.origin, at=version.trained_until
            ) as tx:
                _require_new(version, self._versions(tx.connection))
                row = {**to_row(version), "added_by": actor}
                tx.connection.execute(VERSIONS.insert().values(row))
                tx.digests[f"row:model_version/{name}"] = digest_of(row)
                self._tell(tx, "ModelRegistered", version.number, {"run_id": version.run_id, "origin": version.origin})
        except _AlreadyThere:
            return

    def proposers(self, number: int) -> frozenset[str]:
        with reading(self._engine) as connection:
            return self._proposers(connection, number)

    def assign(
        self,
        role: Role,
        version: int | None,
        *,
        replacing: int | None,
        kind: str,
        by: str,
        why: str,
        at: datetime,
        weight: float = 1.0,
    ) -> Assignment:
        action = ledger.event_of(role, kind)
        with self._trail.recording(actor=by, action=action, subject=self._name(version), reason=why, at=at) as tx:
            assignments, facts = self._assignments(tx.connection), self._facts(tx.connection, OF_VERSIONS)
            now = ledger.require_unchanged(assignments, role, replacing)
            proposers = frozenset[str]() if version is None else self._proposers(tx.connection, version)
            ledger.require_assignable(self._model, assignments, role, version, kind, weight, facts, proposers)
            assigned = self._assign(tx, action, role, version, now, weight, by, why, kind)
            if role == Role.CHAMPION:
                self._end_trials(tx, assignments, {version}, by, why)
            return assigned

    def rollback(self, at: datetime, by: str, why: str, *, leaving: int | None = None, to: int | None = None) -> Assignment:
        with self._trail.recording(actor=by, action="ModelRolledBack", subject=self._model, reason=why, at=at) as tx:
            assignments, facts = self._assignments(tx.connection), self._facts(tx.connection, OF_VERSIONS)
            now = ledger.champion_of(self._model, assignments)
            if leaving is not None and now.version != leaving:
                raise ledger.lost(Role.CHAMPION, now)
            target = ledger.rollback_target(self._model, assignments, facts, to)
            assigned = self._assign(tx, "ModelRolledBack", Role.CHAMPION, target, now, 1.0, by, why, ROLLBACK)
            if now.version not in ledger.barred(facts):
                self._state(tx, BAR, str(now.version), {"assignment": assigned.id}, by, why)
            self._end_trials(tx, assignments, {target, now.version}, by, why)
            return assigned

    def take_in_pin(
        self,
        pin: str,
        version: int,
        *,
        barring: Collection[int],
        superseded: Collection[str],
        at: datetime,
        by: str,
        why: str,
        body: Mapping[str, Any],
    ) -> Assignment | None:
        try:
            with self._trail.recording(actor=by, action="OverrideForced", subject=self._name(version), reason=why, at=at) as tx:
                assignments, facts = self._assignments(tx.connection), self._facts(tx.connection, {*OF_VERSIONS, PIN})
                known = {fact.subject: fact for fact in facts if fact.kind == PIN}
                if pin in known:
                    raise _FactThere(known[pin])
                self._version(tx.connection, version)
                now = ledger.current(assignments, Role.CHAMPION)
                assigned = self._assign(tx, "OverrideForced", Role.CHAMPION, version, now, 1.0, by, why, OVERRIDE)
                self._state(tx, PIN, pin, {**body, "assignment": assigned.id}, by, why)
                for older in sorted(set(superseded) - known.keys()):
                    self._state(tx, PIN, older, {"superseded_by": pin}, by, why)
                there = {each.number for each in self._versions(tx.connection)}
                for number in sorted((set(barring) & there) - ledger.barred(facts)):
                    self._state(tx, BAR, str(number), {"assignment": assigned.id, "pin": pin}, by, why)
                self._end_trials(tx, assignments, {version, *barring}, by, why)
                return assigned
        except _FactThere:
            return None

    def record_judgement(self, version: int, judgement: Mapping[str, Any], at: datetime, by: str) -> Fact:
        why = str(judgement.get("because") or judgement.get("outcome") or "judged")
        return self._record(JUDGEMENT, str(version), judgement, at, by, why)

    def approve(self, version: int, *, why: str, at: datetime, by: str, body: Mapping[str, Any]) -> Fact:
        if ledger.identity_key(by) in self.proposers(version):
            raise ApprovalRefused.own(self._name(version), by)
        return self._record(APPROVAL, str(version), body, at, by, why)

    def refuse(self, version: int, why: str, at: datetime, by: str) -> Fact:
        return self._record(REFUSAL, str(version), {}, at, by, why)

    def bar(self, version: int, why: str, at: datetime, by: str) -> Fact:
        return self._record(BAR, str(version), {}, at, by, why)

    def record(
        self,
        kind: str,
        subject: str,
        body: Mapping[str, Any],
        *,
        at: datetime,
        by: str,
        why: str,
        emit: Iterable[Message] = (),
        behind: int | None = None,
    ) -> Fact:
        if kind in OF_VERSIONS:
            raise ValueError(f"a {kind} is recorded by its own method, not as a fact of any kind")
        return self._record(kind, subject, body, at, by, why, emit, behind)

    def record_decision(self, window_id: str, decision: Mapping[str, Any], at: datetime, by: str, emit: Iterable[Message] = ()) -> Fact:
        return self.record(DECISION, window_id, decision, at=at, by=by, why=str(decision.get("because") or "decided"), emit=emit)

    def record_snapshot(self, snapshot: Mapping[str, Any], at: datetime, by: str, emit: Iterable[Message] = ()) -> Fact:
        return self.record(SNAPSHOT, str(snapshot["id"]), snapshot, at=at, by=by, why="accepted by the gate", emit=emit)

    def unaccounted(self) -> Sequence[str]:
        rows: dict[str, str] = {}
        with reading(self._engine) as connection:
            for row in connection.execute(select(VERSIONS)).mappings():
                rows[f"row:model_version/{row['model']}/{row['number']}"] = digest_of(dict(row))
            for table in (ASSIGNMENTS, FACTS):
                for row in connection.execute(select(table)).mappings():
                    rows[f"row:{table.name}/{row['id']}"] = digest_of(dict(row))
            for row in connection.execute(select(OUTBOX)).mappings():
                rows[f"row:outbox/{row['position']}"] = digest_of({name: row[name] for name in row if name != "sent_at"})
            audited = recorded_rows(connection)
        return compare(rows, audited)

    def _record(
        self,
        kind: str,
        subject: str,
        body: Mapping[str, Any],
        at: datetime,
        by: str,
        why: str,
        emit: Iterable[Message] = (),
        behind: int | None = None,
    ) -> Fact:
        action = _EVENT_OF.get(kind, ledger.recorded(kind))
        about = self._name(int(subject)) if kind in OF_VERSIONS else subject
        try:
            with self._trail.recording(actor=by, action=action, subject=about, reason=why, at=at) as tx:
                if kind in OF_VERSIONS:
                    self._version(tx.connection, int(subject))
                earlier = self._facts(tx.connection, ledger.rivals(kind), subject)
                if earlier and (kind in ONCE_ONLY or ledger.says(earlier[-1], kind, body, at, by, why)):
                    raise _FactThere(earlier[-1])
                if behind not in (None, len(earlier)):
                    raise LostTheRace.behind(kind, subject, behind or 0, len(earlier))
                fact = self._state(tx, kind, subject, body, by, why)
                if kind == BAR:
                    self._end_trials(tx, self._assignments(tx.connection), {int(subject)}, by, why)
                for message in emit:
                    tx.emit(CONTROL, message)
                return fact
        except _FactThere as there:
            same = there.fact.digest == digest_of(dict(body))
            log.info("registry.fact_repeated", extra={"kind": kind, "subject": subject, "same": same})
            return there.fact

    def _end_trials(self, tx: SqlRecording, assignments: Sequence[Assignment], versions: Collection[int | None], by: str, why: str) -> None:
        """Take canary and shadow away from versions that are champion or barred from now on."""
        for line in ledger.ended_trials(assignments, versions):
            self._assign(
                tx, "RoleAssigned", line.role, None, line, 0.0, by, f"version {line.version} is not on trial any more: {why}", PROMOTION
            )

    def _state(self, tx: SqlRecording, kind: str, subject: str, body: Mapping[str, Any], by: str, why: str) -> Fact:
        """Add a fact, and its message if the kind has one."""
        identifier = _next_id(tx.connection, FACTS)
        fact = Fact(identifier, self._model, kind, subject, tx.at, tx.recorded_at, by, why, dict(body), digest_of(dict(body)))
        row = {**to_row(fact), "once": subject if kind in ONCE_ONLY else None}
        tx.connection.execute(FACTS.insert().values(row))
        tx.digests[f"row:fact/{identifier}"] = digest_of(row)
        if kind in _EVENT_OF:
            outcome = {"outcome": str(body["outcome"])} if "outcome" in body else {}
            self._tell(tx, _EVENT_OF[kind], int(subject), {"fact": identifier, "by": by, "why": why, **outcome})
        return fact

    def _assign(
        self,
        tx: SqlRecording,
        event: str,
        role: Role,
        version: int | None,
        now: Assignment | None,
        weight: float,
        by: str,
        why: str,
        kind: str,
    ) -> Assignment:
        assigned = Assignment(
            id=_next_id(tx.connection, ASSIGNMENTS),
            model=self._model,
            role=role,
            replaces=now.id if now else None,
            version=version,
            from_version=now.version if now else None,
            weight=float(weight),
            at=tx.at,
            recorded_at=tx.recorded_at,
            by=by,
            why=why,
            kind=kind,
        )
        row = to_row(assigned)
        tx.connection.execute(ASSIGNMENTS.insert().values(row))
        tx.digests[f"row:assignment/{assigned.id}"] = digest_of(row)
        if traceparent := current_traceparent():
            self._state(tx, TRACE, str(assigned.id), {"traceparent": traceparent}, by, why)
        told = {name: row[name] for name in ("role", "from_version", "kind", "weight", "by", "why")}
        self._tell(tx, event, version, {"assignment": assigned.id, **told})
        return assigned

    def _tell(self, tx: SqlRecording, event: str, version: int | None, details: Mapping[str, Any]) -> None:
        scorer = None if version is None else self._version(tx.connection, version).scorer_sha256
        if scorer:
            tx.digests["scorer"] = scorer
        data = {"model": self._model, "version": version, "scorer_sha256": scorer, **details}
        tx.emit(CONTROL, Message(type=event, at=tx.at, subject=self._model, data=data, traceparent=current_traceparent()))

    def _name(self, number: int | None) -> str:
        return self._model if number is None else f"{self._model}/{number}"

    def _version(self, connection: Connection, number: int) -> ModelVersion:
        return ledger.version_of(self._model, self._versions(connection), number)

    def _proposers(self, connection: Connection, number: int) -> frozenset[str]:
        version = self._version(connection, number)
        wanted = select(VERSIONS.c.added_by).where(VERSIONS.c.model == self._model, VERSIONS.c.number == number)
        return frozenset(ledger.identity_key(each) for each in (version.registered_by, str(connection.execute(wanted).scalar_one())))


def _next_id(connection: Connection, table: Table) -> int:
    """One more than the greatest, without a gap: nobody else writes while the writer's lock is held."""
    return int(connection.execute(select(func.coalesce(func.max(table.c.id), 0))).scalar_one()) + 1


def _require_new(version: ModelVersion, known: Sequence[ModelVersion]) -> None:
    for each in known:
        if each.number == version.number:
            if (each.run_id, each.scorer_sha256, each.data_sha256) == (version.run_id, version.scorer_sha256, version.data_sha256):
                raise _AlreadyThere
            raise VersionTaken.by(version.model, version.number, each.run_id)
