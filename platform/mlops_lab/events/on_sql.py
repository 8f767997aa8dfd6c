"""The outbox as a table, and how the platform opens and writes an SQL database: SQLite in a home, Postgres by its address."""

import json
import threading
import time
import weakref
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    create_engine,
    event,
    func,
    inspect,
    select,
    update,
)
from sqlalchemy.exc import ArgumentError, DatabaseError, DataError, IntegrityError, InterfaceError, NoSuchModuleError, ProgrammingError

from mlops_lab.clock import WallClock, iso
from mlops_lab.errors import RegistryUnreachable, SettingsWrong
from mlops_lab.events import on_postgres
from mlops_lab.events.message import Message
from mlops_lab.events.outbox import Pending

BUSY_TIMEOUT_S = 10.0
_WRITER_LOCK = 0x1AB_0001  # any number: the name of the one writer lock among Postgres's advisory locks

METADATA = MetaData()
OUTBOX = Table(
    "outbox",
    METADATA,
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("topic", Text, nullable=False),
    Column("message_id", Text, nullable=False),
    Column("event", Text, nullable=False, comment="the CloudEvent as JSON"),
    Column("sent_at", Text, index=True, comment="wall time; null while it waits"),
    UniqueConstraint("topic", "message_id"),
)
_prepared: "weakref.WeakKeyDictionary[Engine, set[str]]" = weakref.WeakKeyDictionary()
_preparing = threading.Lock()


def open_engine(url: str, patience_s: float = BUSY_TIMEOUT_S, *, password_file: Path | None = None, reads_only: bool = False) -> Engine:
    """Describe a database; nothing is opened before the first use.

    SQLite gets a write-ahead log, so many seconds of patience with other writers, foreign keys, and every commit is on disk when it
    returns: the second place of the audit may never know more than the database after a power cut. For Postgres see `on_postgres`.

    Args:
        url: As SQLAlchemy writes it.
        patience_s: How long other writers are waited for, and a server that does not answer.
        password_file: Holds the password of a server's role; read anew for each connection.
        reads_only: Tables that are missing are not made: for a process that may not write.

    Raises:
        SettingsWrong: The address cannot be understood, or its driver is not installed.
    """
    try:
        options = on_postgres.options(url, patience_s, reads_only) if url.startswith("postgres") else {}
        engine = create_engine(on_postgres.with_driver(url), execution_options={"lab_reads_only": reads_only}, **options)
    except (ImportError, NoSuchModuleError, ArgumentError, ValueError) as error:
        raise SettingsWrong(
            f"The address of the database is no use: {error}.",
            "write it like sqlite:////path/lab.db or postgresql://role@host:5432/database; `make install` brings the drivers.",
        ) from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "do_connect", partial(_make_folder, patience_s))
        event.listen(engine, "connect", partial(_set_up_sqlite, patience_s))
        event.listen(engine, "begin", _begin_sqlite)
    elif password_file is not None:
        event.listen(engine, "do_connect", partial(on_postgres.give_password, password_file))
    return engine


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A consistent view of the database. Raises RegistryUnreachable where it does not answer."""
    _create_tables(engine)
    # One snapshot for all that is read inside: SQLite gives it anyway, Postgres has to be asked.
    options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True} if engine.dialect.name == "postgresql" else {}
    with _translated(engine), engine.connect().execution_options(**options) as connection, connection.begin():
        yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """One transaction of the only writer: the lock comes first, so what is read inside stays true until the commit.

    Raises:
        RegistryUnreachable: The database does not answer, or another writer kept it longer than our patience. Nothing was written, unless
            a server was lost while it committed: then only the server knows.
    """
    _create_tables(engine)
    with _locked(engine) as connection:
        yield connection


def put(connection: Connection, topic: str, message: Message) -> dict[str, Any] | None:
    """Add a message to the outbox, inside the caller's writing transaction.

    Returns:
        The row, without `sent_at`; None where the topic had a message of that id before: ids are for once.

    Raises:
        ValueError: The message's data holds a number that is NaN or infinite.
    """
    if connection.execute(select(OUTBOX.c.position).where(OUTBOX.c.topic == topic, OUTBOX.c.message_id == message.id)).first():
        return None
    position = int(connection.execute(select(func.coalesce(func.max(OUTBOX.c.position), 0))).scalar_one()) + 1
    text = json.dumps(message.to_cloudevent(), sort_keys=True, separators=(",", ":"), allow_nan=False)
    row = {"position": position, "topic": topic, "message_id": message.id, "event": text}
    connection.execute(OUTBOX.insert().values(row))
    return row


class SqlOutbox:
    """The `Outbox` of a database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def pending(self, limit: int = 500) -> Sequence[Pending]:
        wanted = select(OUTBOX.c.position, OUTBOX.c.topic, OUTBOX.c.event).where(OUTBOX.c.sent_at.is_(None))
        with reading(self._engine) as connection:
            rows = connection.execute(wanted.order_by(OUTBOX.c.position).limit(limit)).all()
        return [Pending(row.position, row.topic, Message.from_cloudevent(json.loads(row.event))) for row in rows]

    def mark_sent(self, positions: Sequence[int]) -> None:
        if positions:
            with writing(self._engine) as connection:
                unsent = update(OUTBOX).where(OUTBOX.c.position.in_(positions), OUTBOX.c.sent_at.is_(None))
                connection.execute(unsent.values(sent_at=iso(WallClock().now())))

    def sent(self, topic: str) -> Set[str]:
        with reading(self._engine) as connection:
            found = connection.execute(select(OUTBOX.c.message_id).where(OUTBOX.c.topic == topic, OUTBOX.c.sent_at.is_not(None)))
            return {str(identifier) for (identifier,) in found}


def _create_tables(engine: Engine) -> None:
    """Create the tables that are missing, once per process; a stage that is imported later brings its own."""
    with _preparing:
        done = _prepared.setdefault(engine, set())
        wanted = set(METADATA.tables)
        if wanted <= done:
            return
        with _translated(engine), engine.connect() as connection:
            there = set(inspect(connection).get_table_names())
        if not wanted <= there:  # whoever only reads an existing home never needs the lock, nor the right to write
            if engine.get_execution_options().get("lab_reads_only"):
                missing = ", ".join(sorted(wanted - there))
                raise RegistryUnreachable.at(engine.url.render_as_string(), f"it has no tables yet ({missing})")
            with _locked(engine) as connection:
                METADATA.create_all(connection)
        done |= wanted


@contextmanager
def _locked(engine: Engine) -> Iterator[Connection]:
    with _translated(engine), engine.connect().execution_options(lab_writer=True) as connection, connection.begin():
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITER_LOCK})")
        yield connection


@contextmanager
def _translated(engine: Engine) -> Iterator[None]:
    try:
        yield
    except (DataError, IntegrityError, ProgrammingError) as error:
        said = on_postgres.refusal(error.orig)
        if said is None:
            raise  # a mistake in our statements, not in the database: it may not look like an outage
        _prepared.pop(engine, None)  # tables that went away are made again by who may
        raise RegistryUnreachable.at(engine.url.render_as_string(), said) from error
    except (DatabaseError, InterfaceError) as error:
        raise RegistryUnreachable.at(engine.url.render_as_string(), str(error.orig)) from error


def _make_folder(patience_s: float, dialect: Any, record: Any, arguments: list[Any], options: dict[str, Any]) -> None:
    if arguments and arguments[0] not in ("", ":memory:"):
        try:
            Path(arguments[0]).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RegistryUnreachable.at(str(arguments[0]), str(error)) from error
    options["timeout"] = patience_s


def _set_up_sqlite(patience_s: float, connection: Any, record: Any) -> None:
    connection.isolation_level = None  # the driver's own BEGIN would come too late and without the lock
    _switch_to_wal(connection, patience_s)
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")


def _switch_to_wal(connection: Any, patience_s: float) -> None:
    # The switch of a new file needs it alone and does not wait for others as statements do, so we wait here.
    deadline = time.monotonic() + patience_s
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except Exception as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("lab_writer") else "BEGIN")
