"""The same `Idempotency-Key` again gets the same answer, and no second entry in the log, also behind a restart.

The log is the memory: a keyed request's frame holds its key, a digest of its body and its answers, so that a restart reads back what
is still within the window. The window is the last `window_s` seconds and the last `window_bytes` of the log, whichever is shorter, and
at most `most` keys. Keys belong to one replica.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any

import orjson

from mlops_lab.clock import from_iso
from mlops_lab.serving.contract import Refusal
from mlops_lab.serving.segments import recent_payloads

_KEYED = b'"key":'


@dataclass(frozen=True, slots=True)
class Window:
    """How far back a key is remembered.

    Attributes:
        seconds: Since its answer.
        log_bytes: Of the prediction log behind its answer.
        most: Keys at most; the oldest go first.
    """

    seconds: float = 600.0
    log_bytes: int = 64 * 1024 * 1024
    most: int = 50_000


@dataclass(slots=True)
class Kept:
    """What a key was answered.

    Attributes:
        asked: Digest of the request's body.
        content: Body of the reply.
        request_id: Of the request that was answered.
        until: Monotonic time of its end.
        at_byte: How much had been written to the log when it was answered.
    """

    asked: str
    content: bytes
    request_id: str
    until: float
    at_byte: int


class Keys:
    """Remembers keyed answers. Used from one thread."""

    def __init__(self, window: Window | None = None, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._window = window or Window()
        self._monotonic = monotonic
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._written = 0

    def __len__(self) -> int:
        return len(self._kept)

    def read_back(self, directory: Path, now: datetime) -> int:
        """Take in what the log of a former life still holds within the window; returns how many keys."""
        found: list[tuple[Mapping[str, Any], int]] = []
        for behind, payload in recent_payloads(directory, self._window.log_bytes):
            if _KEYED in bytes(payload):
                frame = orjson.loads(payload)
                if "key" in frame and "asked" in frame:
                    found.append((frame, behind))
        for frame, behind in sorted(found, key=lambda one: -one[1]):
            age_s = max(0.0, (now - from_iso(frame["answered_at"])).total_seconds())
            if age_s < self._window.seconds:
                until = self._monotonic() + self._window.seconds - age_s
                kept = Kept(frame["asked"], answer_of(frame), frame["request_id"], until, -behind)
                self._kept[frame["key"]] = kept
                self._kept.move_to_end(frame["key"])
        self._trim()
        return len(self._kept)

    def find(self, key: str, asked: str) -> Kept | None:
        """The answer that a key got, None for a key that is new or whose window is over.

        Raises:
            Refusal: 422, the key came with another body before.
        """
        kept = self._kept.get(key)
        if kept is None:
            return None
        if self._monotonic() >= kept.until or self._written - kept.at_byte > self._window.log_bytes:
            del self._kept[key]
            return None
        if kept.asked != asked:
            why = "was used with another body before: a new question needs a new key"
            raise Refusal(422, "Content cannot be used", f"Idempotency-Key {why}.", fields=(("Idempotency-Key", why),))
        return kept

    def keep(self, key: str, asked: str, content: bytes, request_id: str) -> None:
        """Remember an answer that is about to be logged and given; `forget` it where that fails."""
        self._kept[key] = Kept(asked, content, request_id, self._monotonic() + self._window.seconds, self._written)
        self._kept.move_to_end(key)
        self._trim()

    def forget(self, keys: Iterable[str]) -> None:
        """These were not answered after all."""
        for key in keys:
            self._kept.pop(key, None)

    def wrote(self, count: int) -> None:
        """So many bytes more are in the log."""
        self._written += count

    def _trim(self) -> None:
        while len(self._kept) > self._window.most:
            self._kept.popitem(last=False)


def digest_of_body(body: bytes) -> str:
    """What tells two bodies apart."""
    return blake2b(body, digest_size=16).hexdigest()


def answer_of(frame: Mapping[str, Any]) -> bytes:
    """The body of the reply that a keyed frame of predictions was answered with."""
    answers = [
        {
            "prediction_id": row["prediction_id"],
            "probability": row["probability"],
            "model_version": frame["model_version"],
            "variant": frame["variant"],
            "feature_ages_s": row["ages_s"],
        }
        for row in frame["rows"]
    ]
    return reply_body(answers, frame["request_id"], single=bool(frame["single"]))


def reply_body(answers: "list[Any]", request_id: str, *, single: bool) -> bytes:
    """A body as `/v1/predict` sends it: one answer for a single item, else a list of them."""
    return orjson.dumps(answers[0] if single else {"request_id": request_id, "items": answers})
