"""Outcomes that come back: written to the log once per event id, then acknowledged. Joining them is not done here."""

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import orjson

from mlops_lab.clock import Clock
from mlops_lab.serving.contract import UNUSABLE, Outcome, Refusal

_REMEMBERED = 65_536


class FeedbackDesk:
    """Turns outcomes into a frame to log.

    A frame of kind `feedback` holds `request_id received_at items`, and each item the fields of `Outcome`. Event ids are remembered
    for a while to spare the log a sender's repetitions; behind a restart they may be in it again, and the join counts them once.
    """

    def __init__(self, clock: Clock) -> None:
        """Args:
        clock: Wall time.
        """
        self._clock = clock
        self._seen: OrderedDict[str, bytes] = OrderedDict()

    def take(self, outcomes: Sequence[Outcome], request_id: str) -> "Taken":
        """Find out what is new, and count it as seen from now on; `forget` it where it cannot be logged.

        Raises:
            Refusal: 422 when an event id comes back with another content.
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
        self._seen.update(new)
        while len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        frame = {"kind": "feedback", "request_id": request_id, "received_at": self._clock.now(), "items": records} if records else None
        return Taken(frame, len(records), len(outcomes) - len(records), tuple(new))

    def forget(self, event_ids: Iterable[str]) -> None:
        """These were not logged after all."""
        for event_id in event_ids:
            self._seen.pop(event_id, None)


@dataclass(frozen=True, slots=True)
class Taken:
    """What one request brought: the frame to log (None where nothing is new), the counts, and the ids that are new."""

    frame: dict[str, object] | None
    accepted: int
    known_already: int
    new: tuple[str, ...]


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
