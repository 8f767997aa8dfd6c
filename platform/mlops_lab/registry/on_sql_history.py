"""The reading half of the ledger in an SQL database: its tables, and all that a process needs which must not be able to write."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Column, Connection, Engine, Float, Integer, Table, Text, UniqueConstraint, select

from mlops_lab.events.on_sql import METADATA, reading
from mlops_lab.registry import ledger
from mlops_lab.registry.history import History
from mlops_lab.registry.ledger import BAR, PIN, TRACE, Fact, Standing
from mlops_lab.registry.rows import assignment_from, fact_from, version_from
from mlops_lab.registry.version import Assignment, ModelVersion, Role


def _texts(*names: str) -> list[Column[str]]:
    return [Column(name, Text, nullable=False) for name in names]


# Columns are the fields of the value in the row; times are texts: `at` is event time, `recorded_at` wall time.
VERSIONS = Table(
    "model_version",
    METADATA,
    Column("model", Text, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    *_texts("run_id", "scorer_sha256", "data_sha256", "trained_until", "registered_at", "registered_by", "origin"),
    Column("added_by", Text, nullable=False, comment="who entered it here; registered_by ordered it"),
)
ASSIGNMENTS = Table(
    "assignment",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    *_texts("model", "role"),
    Column("replaces", Integer, unique=True, comment="an assignment is replaced once: the chain of a role never forks"),
    Column("version", Integer),
    Column("from_version", Integer),
    Column("weight", Float(53), nullable=False),
    *_texts("at", "recorded_at", "by", "why", "kind"),
)
FACTS = Table(
    "fact",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    *_texts("model", "kind", "subject"),
    Column("once", Text, comment="the subject, for kinds that have one fact per subject"),
    *_texts("at", "recorded_at", "by", "why"),
    Column("body", Text, nullable=False, comment="canonical JSON"),
    Column("digest", Text, nullable=False, comment="SHA-256 of the body"),
    UniqueConstraint("model", "kind", "once"),
)
_EARLIER = 3


class SqlHistory(History):
    """The reading half: all that a process needs which must not be able to write, such as the service.

    Args:
        engine: From `open_engine`.
        model: Name of the registered model.
    """

    def __init__(self, engine: Engine, model: str) -> None:
        self._engine = engine
        self._model = model
        self._stood: tuple[tuple[Any, ...], Standing] | None = None

    @property
    def model(self) -> str:
        return self._model

    def close(self) -> None:
        """Let go of the database; the next call opens it again."""
        self._engine.dispose()

    def versions(self) -> Sequence[ModelVersion]:
        with reading(self._engine) as connection:
            return self._versions(connection)

    def assignments(self) -> Sequence[Assignment]:
        with reading(self._engine) as connection:
            return self._assignments(connection)

    def facts(self, kind: str | None = None, subject: str | None = None) -> Sequence[Fact]:
        with reading(self._engine) as connection:
            return self._facts(connection, None if kind is None else {kind}, subject)

    def standing(self) -> Standing:
        """See `Ledger.standing`. Rows are only ever added, so while the last ones are the same, so is everything before them."""
        with reading(self._engine) as connection:
            last = tuple(
                tuple(connection.execute(select(table.c.id, table.c.recorded_at).order_by(table.c.id.desc()).limit(1)).first() or ())
                for table in (ASSIGNMENTS, FACTS)
            )
            if self._stood is not None and self._stood[0] == last:
                return self._stood[1]
            standing = self._standing(connection)
        self._stood = last, standing
        return standing

    def _standing(self, connection: Connection) -> Standing:
        assignments, facts = self._assignments(connection), self._facts(connection, {BAR, PIN, TRACE})
        lines, barred = {line.role: line for line in assignments}, ledger.barred(facts)
        champion = lines.get(Role.CHAMPION)
        earlier = ledger.ways_back(assignments, {*barred, champion.version if champion else None})[:_EARLIER]
        named = {line.version for line in (*lines.values(), *earlier) if line.version is not None}
        wanted = select(VERSIONS.c.number, VERSIONS.c.scorer_sha256).where(VERSIONS.c.model == self._model, VERSIONS.c.number.in_(named))
        digests = {int(row.number): str(row.scorer_sha256) for row in connection.execute(wanted)}
        pins = frozenset(fact.subject for fact in facts if fact.kind == PIN)
        traces = {int(fact.subject): str(fact.body["traceparent"]) for fact in facts if fact.kind == TRACE}
        return Standing(lines, digests, barred, pins, tuple(earlier), traces)

    def _versions(self, connection: Connection) -> list[ModelVersion]:
        wanted = select(VERSIONS).where(VERSIONS.c.model == self._model).order_by(VERSIONS.c.number)
        return [version_from(dict(row)) for row in connection.execute(wanted).mappings()]

    def _assignments(self, connection: Connection) -> list[Assignment]:
        wanted = select(ASSIGNMENTS).where(ASSIGNMENTS.c.model == self._model).order_by(ASSIGNMENTS.c.id)
        return [assignment_from(dict(row)) for row in connection.execute(wanted).mappings()]

    def _facts(self, connection: Connection, kinds: Collection[str] | None = None, subject: str | None = None) -> list[Fact]:
        wanted = select(FACTS).where(FACTS.c.model == self._model).order_by(FACTS.c.id)
        if kinds is not None:
            wanted = wanted.where(FACTS.c.kind.in_(kinds))
        if subject is not None:
            wanted = wanted.where(FACTS.c.subject == subject)
        return [fact_from(dict(row)) for row in connection.execute(wanted).mappings()]
