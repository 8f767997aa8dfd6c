"""What goes wrong becomes problem details; what is our fault is logged, with what no caller is shown."""

import logging
from time import monotonic

from mlops_lab.errors import FeaturesRefused, LogUnwritable, ModelError, NoChampion
from mlops_lab.serving.call import Reply
from mlops_lab.serving.contract import PROBLEM_TYPE, Refusal

_PROBLEM = (b"content-type", PROBLEM_TYPE.encode())
_UNLOGGED = "The prediction log cannot be written, and nothing is answered that is not logged. Try again: answers resume by themselves."
_NO_ANSWER = "The model has no usable answer to this. Its operator finds the reason in the service's log, under this request_id."
_FAILED = "The service failed, not the request. Its operator finds the reason in the service's log, under this request_id."

_log = logging.getLogger(__name__)


class Refusals:
    """Makes the replies of one service to what it cannot answer."""

    def __init__(self) -> None:
        self._tell_unlogged_at = 0.0

    def refuse(self, route: str, error: Exception, request_id: str | None) -> Reply:
        """Turn what went wrong into problem details. What is our fault is logged, with the paths and values that no caller is shown."""
        if isinstance(error, Refusal):
            refusal = error
        elif isinstance(error, NoChampion | FeaturesRefused):
            refusal = Refusal(503, "Cannot answer now", str(error), retry_after_s=1)
        elif isinstance(error, LogUnwritable):
            self._tell_unlogged(route, error, request_id)
            refusal = Refusal(503, "Cannot answer now", _UNLOGGED, retry_after_s=1)
        else:
            _log.error("serving.request_failed", exc_info=error, extra={"route": route, "request_id": request_id})
            refusal = Refusal(500, "Internal error", _NO_ANSWER if isinstance(error, ModelError) else _FAILED)
        headers = [_PROBLEM]
        if request_id is not None:
            headers.append((b"x-request-id", request_id.encode()))
        if refusal.retry_after_s is not None:
            headers.append((b"retry-after", str(refusal.retry_after_s).encode()))
        if refusal.status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        return Reply(refusal.status, headers, refusal.body(request_id))

    def _tell_unlogged(self, route: str, error: LogUnwritable, request_id: str | None) -> None:
        """Once a second, with one request for all: they may be thousands, and the disk may be full."""
        now = monotonic()
        if now >= self._tell_unlogged_at:
            self._tell_unlogged_at = now + 1
            _log.error("serving.not_logged", extra={"route": route, "request_id": request_id, "why": error.what})
