"""The ledger as a replica reads it: opened late, never made, and found again after it was put back."""

from pathlib import Path
from typing import TYPE_CHECKING

from mlops_lab.errors import RegistryUnreachable
from mlops_lab.registry.ledger import Standing

if TYPE_CHECKING:
    from mlops_lab.registry.on_sql import SqlHistory


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
            from mlops_lab.registry.on_sql import SqlHistory

            self._close()
            self._history, self._file = SqlHistory(open_engine(f"sqlite:///{self._path}"), self._model), file
        return self._history.standing()

    def _close(self) -> None:
        if self._history is not None:
            self._history.close()
            self._history = None
