"""Outcomes that come back: written to the log once per event id, then acknowledged. Joining them is not done here."""

import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Sequence

import orjson

from mlops_lab.clock import Clock
from mlops_lab.serving.contract import UNUSABLE, Outcome, Refusal
from mlops_lab.serving.prediction_log import PredictionLog

_REMEMBERED = 65_536


class FeedbackDesk:
    """Takes outcomes from whoever has the token.

    A frame of kind `feedback` holds `request_id received_at items`, and each item the fields of `Outcome`. Event ids are remembered
    for a while to spare the log a sender's repetitions; behind a restart they may be in it again, and the join counts them once.
    """

    def __init__(self, log: PredictionLog, clock: Clock, token: str) -> None:
        """Args:
        log: Where outcomes go.
        clock: Wall time.
        token: What a sender must present; not empty.
        """
        if not token:
            raise ValueError("an empty token would let everybody in")
        self._log = log
        self._clock = clock
        self._token = _digest(token.encode())
        self._seen: OrderedDict[str, bytes] = OrderedDict()

    def authorize(self, header: bytes | None) -> None:
        """Check an `Authorization` header, in constant time. Raises Refusal 401."""
        scheme, _, token = (header or b"").partition(b" ")
        if not hmac.compare_digest(_digest(token.strip()), self._token) or scheme.lower() != b"bearer":
            raise Refusal(401, "Not authorized", "Send the header 'Authorization: Bearer <token>' with this service's feedback token.")

    def accept(self, outcomes: Sequence[Outcome], request_id: str) -> tuple[int, int]:
        """Log what is new. Returns how many were accepted and how many were known already.

        Raises:
            Refusal: 422 when an event id comes back with another content.
            LogUnwritable: Nothing was accepted.
        """
        new: OrderedDict[str, bytes] = OrderedDict()
        records: list[Outcome] = []
        for i, outcome in enumerate(outcomes):
            content = _digest(orjson.dumps(outcome, option=orjson.OPT_SORT_KEYS))
            known = new.get(outcome.event_id) or self._seen.get(outcome.event_id)
            if known is None:
                new[outcome.event_id] = content
                records.append(outcome)
            elif known != content:
                why = "was sent before with another content: a correction is a new event with a higher revision"
                raise Refusal(422, UNUSABLE, f"items[{i}].event_id {why}.", fields=((f"items[{i}].event_id", why),))
        if records:
            self._log.append({"kind": "feedback", "request_id": request_id, "received_at": self._clock.now(), "items": records})
        self._seen.update(new)
        while len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return len(records), len(outcomes) - len(records)


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
