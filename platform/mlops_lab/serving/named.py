"""From a line of the ledger to a version that is loaded, or a reason why it cannot be had; and the packages that may be needed are kept."""

import logging
from collections.abc import Collection

from mlops_lab.errors import StoreUnreachable
from mlops_lab.registry.ledger import Standing
from mlops_lab.registry.version import Assignment, Role
from mlops_lab.serving.cache import PackageCache
from mlops_lab.serving.loaded import Loaded
from mlops_lab.serving.loading import Loader, Retry
from mlops_lab.serving.memory import Memory, served
from mlops_lab.serving.place import Place
from mlops_lab.serving.telling import Telling, words

_log = logging.getLogger(__name__)


class Named:
    """Gets what the ledger names. Belongs to the thread that asks the ledger; may wait for the store, so no lock is held meanwhile."""

    def __init__(self, cache: PackageCache, loader: Loader, place: Place, memory: Memory, telling: Telling, retry_s: float) -> None:
        """Args:
        retry_s: First pause after something that could not be had.
        """
        self._cache = cache
        self._loader = loader
        self._place = place
        self._memory = memory
        self._telling = telling
        self._retries = {role: Retry(retry_s) for role in Role}
        self._way_back = 0  # the line whose package is at hand
        self._way_back_retry = Retry(retry_s)

    def load(self, role: Role, line: Assignment, standing: Standing) -> Loaded | None:
        """A version that a line names; None, with the reason said, where it cannot be had now."""
        retry, number = self._retries[role], line.version
        assert number is not None
        if retry.waits(line.id):
            return None
        digest = standing.digests.get(number, "")
        try:
            self._protect(standing.digests.values())
            loaded = self._loader.loaded(line.model, number, line.id, line.at, digest, self._place.loaded())
        except Exception as error:
            retry.failed(line.id)
            self._refused(role, line, digest, error)
            return None
        retry.succeeded()
        self._telling.say(role, None)
        return loaded

    def waits(self, role: Role, line: Assignment | None) -> bool:
        """Whether a line's version could not be had and is not tried again yet."""
        return self._retries[role].waits(line.id if line else None)

    def keep_way_back(self, standing: Standing) -> None:
        """Have the package at hand that a rollback would need: when it is needed, the store may be down."""
        line = next(iter(standing.earlier), None)
        if line is None or line.id == self._way_back or self._place.champion is None or self._way_back_retry.waits(line.id):
            return
        try:
            self._protect(standing.digests.values())
            self._cache.scorer(served(line, standing).scorer_sha256, line.model)
            self._way_back = line.id
        except Exception as error:
            self._way_back_retry.failed(line.id)
            _log.warning("serving.way_back_not_at_hand", extra={"version": line.version, "why": words(error)})

    def _refused(self, role: Role, line: Assignment, digest: str, error: Exception) -> None:
        left_out = "could not be put in place" if role == Role.CHAMPION else f"is left out as {role}"
        self._telling.say(role, f"Version {line.version} {left_out}: {words(error)}")
        what = "package_unreachable" if isinstance(error, StoreUnreachable) else "package_refused"
        if what == "package_refused" or role != Role.CHAMPION:
            digests = {"scorer": digest, **getattr(error, "digests", {})}
            self._telling.tell((what, line.id), what, f"{line.model}/{line.version}", f"{role}: {words(error)}", digests)

    def _protect(self, named: Collection[str]) -> None:
        """Keep the packages of what is named, of what answers, and of what a rollback would go back to."""
        self._cache.protect({*named, *self._memory.kept(), *(each.scorer_sha256 for each in self._place.loaded())})
