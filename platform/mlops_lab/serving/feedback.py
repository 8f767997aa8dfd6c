"""Outcomes that come back: checked, written to the log once per event id, then acknowledged. Joining them is not done here."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from mlops_lab.clock import Clock, from_iso, iso
from mlops_lab.serving.contract import FieldWrong, Refusal

ParseOutcome = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""The use case's check of one `outcome`: returns what is to be kept. Raises FieldWrong."""

_KNOWN = frozenset(("event_id", "prediction_id", "revision", "outcome", "at"))
_REMEMBERED = 65_536


@dataclass(frozen=True, slots=True)
class Outcome:
    """One outcome of one prediction.

    Attributes:
        event_id: Unique per event; the same id again has the effect of once.
        prediction_id: As answered; an unknown one is taken, the join decides.
        revision: Grows when the same outcome is corrected.
        outcome: As the use case keeps it.
        at: Event time, ISO 8601 in UTC.
    """

    event_id: str
    prediction_id: str
    revision: int
    outcome: Mapping[str, Any]
    at: str


def parse_feedback_item(item: Mapping[str, Any], parse_outcome: ParseOutcome) -> Outcome:
    """Check one item of `/v1/feedback`. Raises FieldWrong with its path in the item."""
    strangers = item.keys() - _KNOWN
    if strangers:
        raise FieldWrong(min(strangers)[:100], "is not known here")
    revision = item.get("revision", 0)
    if type(revision) is not int or not 0 <= revision < 2**31:
        raise FieldWrong("revision", "must be an integer from 0 to 2147483647")
    outcome = item.get("outcome")
    if not isinstance(outcome, dict):
        raise FieldWrong("outcome", "must be an object")
    try:
        kept = parse_outcome(outcome)
    except FieldWrong as error:
        raise FieldWrong(f"outcome.{error.field}" if error.field else "outcome", error.why) from error
    return Outcome(_identifier(item, "event_id"), _identifier(item, "prediction_id"), revision, kept, _moment(item))


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
                raise Refusal(422, "Content cannot be used", f"items[{i}].event_id {why}.", fields=((f"items[{i}].event_id", why),))
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


def _identifier(item: Mapping[str, Any], name: str) -> str:
    value = item.get(name)
    if not isinstance(value, str) or not 1 <= len(value) <= 128 or not value.isprintable():
        raise FieldWrong(name, "must be a text of 1 to 128 printable characters")
    return value


def _moment(item: Mapping[str, Any]) -> str:
    value = item.get("at")
    try:
        return iso(from_iso(value if isinstance(value, str) else ""))
    except (ValueError, OverflowError) as error:
        raise FieldWrong("at", "must be a moment in ISO 8601 with a time zone, such as 2013-04-01T12:00:00Z") from error


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
