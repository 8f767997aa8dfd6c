"""Where the database of a test's home is: a file in it, or a schema of a server where tests/services repeats the specification there."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import create_engine, make_url, text

from mlops_lab.events.on_postgres import with_driver

_of_server: list[Callable[[Path], str]] = []


def database_of(home: Path) -> str:
    """The address, as SQLAlchemy writes it. The same home has the same database."""
    return _of_server[-1](home) if _of_server else f"sqlite:///{home}/lab.db"


@contextmanager
def on_server(address_of: Callable[[Path], str]) -> Iterator[None]:
    """Until it is left, homes have their databases there."""
    _of_server.append(address_of)
    try:
        yield
    finally:
        _of_server.pop()


class Schemas:
    """A schema for each home that asks, all dropped at the end."""

    def __init__(self, database: str) -> None:
        self._database = database
        self._engine = create_engine(with_driver(database), isolation_level="AUTOCOMMIT")
        self._names: dict[Path, str] = {}

    def address_of(self, home: Path, port: int | None = None) -> str:
        """Where the home's ledger is; the port is that of somebody who passes everything on."""
        if home not in self._names:
            self._names[home] = f"test_{uuid.uuid4().hex[:12]}"
            with self._engine.connect() as connection:
                connection.execute(text(f"CREATE SCHEMA {self._names[home]}"))
        url = make_url(self._database).update_query_dict({"options": f"-c search_path={self._names[home]}"})
        return url.set(port=port or url.port).render_as_string(hide_password=False)

    def drop(self) -> None:
        with self._engine.connect() as connection:
            for name in self._names.values():  # one by one: all at once would want too many locks
                connection.execute(text(f"DROP SCHEMA {name} CASCADE"))
        self._engine.dispose()
