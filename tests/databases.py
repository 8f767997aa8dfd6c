"""Where the database of a test's home is: a file in it, or a schema of a server where tests/services repeats the specification there."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

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
