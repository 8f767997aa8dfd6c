"""What is wrong now, part by part, and what belongs into the audit trail, once."""

import logging
import threading
from collections.abc import Callable, Mapping

from mlops_lab.errors import LabError

Report = Callable[[str, str, str, Mapping[str, str]], None]
"""Tells the audit trail something: what, subject, why, digests. May raise; it is told again then."""

_log = logging.getLogger(__name__)


class Telling:
    """Says each trouble when it comes and when it goes. Safe for several threads: its lock is held for no other and for no I/O."""

    def __init__(self, report: Report | None) -> None:
        self._report = report
        self._lock = threading.Lock()
        self._troubles: dict[str, str] = {}  # replaced as a whole: it is read without the lock
        self._told: set[tuple[str, object]] = set()

    @property
    def trouble(self) -> str | None:
        """What is wrong now, in words; None where nothing is."""
        return " ".join(self._troubles.values()) or None

    def of(self, part: str) -> str:
        """What is wrong with one part; empty where nothing is."""
        return self._troubles.get(part, "")

    def say(self, part: str, trouble: str | None) -> None:
        """What is wrong with a part from now on; None for nothing. What was said already is not logged again."""
        with self._lock:
            if trouble == self._troubles.get(part):
                return
            others = {name: what for name, what in self._troubles.items() if name != part}
            self._troubles = others if trouble is None else {**others, part: trouble}
        if trouble is None:
            _log.info("serving.follows_again", extra={"part": part})
        else:
            _log.error("serving.cannot_follow", extra={"part": part, "why": trouble})

    def tell(self, once: tuple[str, object], what: str, subject: str, why: str, digests: Mapping[str, str]) -> None:
        """Report something to the audit trail, once for each `once`; if it cannot be reported, the next call tries again."""
        if self._report is None:
            return
        with self._lock:
            if once in self._told:
                return
            self._told.add(once)
        try:
            self._report(what, subject, why, digests)
        except Exception as error:  # the log is full, for instance: what is to be told may wait, what answers may not
            _log.error("serving.not_reported", extra={"what": what, "subject": subject, "why": str(error)})
            with self._lock:
                self._told.discard(once)


def words(error: Exception) -> str:
    """What happened, for a sentence."""
    return error.what if isinstance(error, LabError) else repr(error)
