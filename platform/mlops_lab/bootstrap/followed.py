"""The ledger as a replica reads it: opened late, never made, found again after it was put back or restarted, and never waited for long."""

from pathlib import Path
from typing import TYPE_CHECKING

from mlops_lab.deadline import Aside, TooLate
from mlops_lab.errors import RegistryUnreachable
from mlops_lab.registry.ledger import Standing
from mlops_lab.settings import Settings

if TYPE_CHECKING:
    from mlops_lab.registry.on_sql_history import SqlHistory
    from mlops_lab.serving.follower import FollowedLedger

_LONGER_S = 1.0


def followed(settings: Settings, model: str) -> "FollowedLedger":
    """The ledger that the settings name."""
    said = settings.stores
    if said.database:
        return LedgerOfServer(said.database, model, said.database_timeout_s, said.database_password_file)
    return LedgerOfHome(settings.home, model)


class LedgerOfServer:
    """Keeps `serving.follower.FollowedLedger` on a database server, reading only.

    A server that is gone is noticed by the driver. One that hangs says neither yes nor no, and a replica that waited would go on
    calling the ledger up, so it is asked on a thread of its own. Whatever comes too late is dropped: the next look asks anew.

    Args:
        address: Of the database.
        model: Whose ledger.
        deadline_s: How long the server and the network may take for one part of the answer; the whole gets a second more.
        password_file: Holds the password of the role.
    """

    def __init__(self, address: str, model: str, deadline_s: float, password_file: Path | None = None) -> None:
        self._address = address
        self._model = model
        self._deadline_s = deadline_s
        self._password_file = password_file
        self._aside = Aside("ledger-reader")
        self._history: SqlHistory | None = None

    def standing(self) -> Standing:
        """See FollowedLedger.standing. Raises RegistryUnreachable at the deadline too."""
        if self._history is None:
            self._history = self._opened()
        try:
            return self._aside.call(self._history.standing, self._deadline_s + _LONGER_S)
        except TooLate as error:
            raise RegistryUnreachable.at("postgresql", str(error)) from error

    def close(self) -> None:
        """Let go of the server; the next look opens it again."""
        if self._history is not None:
            self._history.close()

    def _opened(self) -> "SqlHistory":
        from mlops_lab.audit.on_sql import open_engine
        from mlops_lab.registry.on_sql_history import SqlHistory

        engine = open_engine(self._address, self._deadline_s, password_file=self._password_file, reads_only=True)
        return SqlHistory(engine, self._model)


class LedgerOfHome:
    """Keeps `serving.follower.FollowedLedger` on the home's database.

    It is opened by the thread that follows it: the first answer need not wait for the database library. An open file lives on after it
    was removed or replaced, so each time we look which file it is: a replica must not follow for ever what nobody else can see.
    """

    def __init__(self, home: Path, model: str) -> None:
        self._path = (home / "lab.db").resolve()
        self._model = model
        self._file: tuple[int, int] | None = None
        self._history: SqlHistory | None = None

    def standing(self) -> Standing:
        """See FollowedLedger.standing."""
        try:
            stat = self._path.stat()
        except OSError as error:
            self._close()
            raise RegistryUnreachable.at(str(self._path), error.strerror or str(error)) from error
        file = (stat.st_dev, stat.st_ino)
        if self._history is None or file != self._file:
            from mlops_lab.audit.on_sql import open_engine
            from mlops_lab.registry.on_sql_history import SqlHistory

            self._close()
            self._history, self._file = SqlHistory(open_engine(f"sqlite:///{self._path}"), self._model), file
        return self._history.standing()

    def _close(self) -> None:
        if self._history is not None:
            self._history.close()
            self._history = None
