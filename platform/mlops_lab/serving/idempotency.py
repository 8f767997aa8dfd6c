"""The same `Idempotency-Key` again gets the same answer, and no second entry in the log, also behind a restart.

The log is the memory: a keyed request's frame holds its key, a digest of its body and its answers, so that a restart reads back what
is still within the window. The window is the last `window_s` seconds and the last `window_bytes` of the log, whichever is shorter, and
at most `most` keys. Keys belong to one replica.

A large answer, and the older ones once all have too many bytes, are not held in memory but made again from the log when they are asked for.
"""

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any

import orjson

from mlops_lab.clock import from_iso
from mlops_lab.serving.contract import Refusal
from mlops_lab.serving.segments import recent_payloads

_KEYED = b'"key":'
_READ_BACK_BYTES = 2 * 1024 * 1024
"""Of answers made ready at a start, which has to be quick; older ones are read from the log when they are asked for."""


@dataclass(frozen=True, slots=True)
class Window:
    """How far back a key is remembered.

    Attributes:
        seconds: Since its answer.
        log_bytes: Of the prediction log behind its answer.
        most: Keys at most; the oldest go first.
        held_bytes: Answers in memory, all together.
        held_answer_bytes: The largest answer that is held in memory.
    """

    seconds: float = 600.0
    log_bytes: int = 32 * 1024 * 1024
    most: int = 50_000
    held_bytes: int = 16 * 1024 * 1024
    held_answer_bytes: int = 64 * 1024


@dataclass(slots=True)
class Kept:
    """What a key was answered.

    Attributes:
        asked: Digest of the request's body.
        content: Body of the reply; empty while it is in the log only.
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
        self._kept: OrderedDict[str, Kept] = OrderedDict()  # the oldest first
        self._held: deque[tuple[str, Kept]] = deque()  # those whose content is in memory, and some that were
        self._held_bytes = 0
        self._written = 0
        self._log: Path | None = None

    def __len__(self) -> int:
        return len(self._kept)

    def read_back(self, directory: Path, now: datetime) -> int:
        """Take in what the log of a former life still holds within the window; returns how many keys."""
        self._log = directory
        found: list[tuple[str, Kept]] = []
        room = _READ_BACK_BYTES
        for behind, payload in recent_payloads(directory, self._window.log_bytes):
            frame = _keyed(payload)
            if frame is None:
                continue
            age_s = max(0.0, (now - from_iso(frame["answered_at"])).total_seconds())
            if age_s < self._window.seconds:
                content = answer_of(frame) if room > 0 else b""
                room -= len(content)
                until = self._monotonic() + self._window.seconds - age_s
                found.append((frame["key"], Kept(frame["asked"], content, frame["request_id"], until, -behind)))
        for key, kept in sorted(found, key=lambda each: each[1].at_byte):
            self._put(key, kept)
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
        if self._is_over(kept):
            self._drop(key)
            return None
        if kept.asked != asked:
            why = "was used with another body before: a new question needs a new key"
            raise Refusal(422, "Content cannot be used", f"Idempotency-Key {why}.", fields=(("Idempotency-Key", why),))
        return kept if kept.content else self._from_log(key, kept)

    def keep(self, key: str, asked: str, content: bytes, request_id: str) -> None:
        """Remember an answer that is about to be logged and given; `forget` it where that fails."""
        self._put(key, Kept(asked, content, request_id, self._monotonic() + self._window.seconds, self._written))
        self._trim()

    def forget(self, keys: Iterable[str]) -> None:
        """These were not answered after all."""
        for key in keys:
            self._drop(key)

    def wrote(self, count: int) -> None:
        """So many bytes more are in the log."""
        self._written += count

    def _put(self, key: str, kept: Kept) -> None:
        self._drop(key)
        self._kept[key] = kept
        if self._log is not None and len(kept.content) > self._window.held_answer_bytes:
            kept.content = b""
        if kept.content:
            self._held.append((key, kept))
            self._held_bytes += len(kept.content)

    def _drop(self, key: str) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._let_go(kept)

    def _let_go(self, kept: Kept) -> None:
        self._held_bytes -= len(kept.content)
        kept.content = b""

    def _is_over(self, kept: Kept) -> bool:
        return self._monotonic() >= kept.until or self._written - kept.at_byte > self._window.log_bytes

    def _trim(self) -> None:
        while self._kept:
            key, oldest = next(iter(self._kept.items()))
            if len(self._kept) <= self._window.most and not self._is_over(oldest):
                break
            self._drop(key)
        while self._held and (not self._held[0][1].content or self._held_bytes > self._window.held_bytes):
            key, kept = self._held.popleft()
            if kept.content and self._log is None:
                self._drop(key)  # there is nowhere to read it from
            self._let_go(kept)

    def _from_log(self, key: str, kept: Kept) -> Kept | None:
        """What a key was answered, by the log; None where it was shipped and deleted there: then the window is over earlier."""
        assert self._log is not None
        sought = orjson.dumps(key)
        for _, payload in recent_payloads(self._log, self._window.log_bytes):
            if sought in bytes(payload):
                frame = _keyed(payload)
                if frame is not None and (frame["key"], frame["request_id"]) == (key, kept.request_id):
                    return replace(kept, content=answer_of(frame))
        self._drop(key)
        return None


def _keyed(payload: memoryview) -> dict[str, Any] | None:
    """The frame of a request that had a key, None for any other one."""
    if _KEYED not in bytes(payload):
        return None
    frame: dict[str, Any] = orjson.loads(payload)
    return frame if "key" in frame and "asked" in frame else None


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
            # a frame of an earlier release has none, and was answered without
            **({"feature_state": row["feature_state"]} if "feature_state" in row else {}),
        }
        for row in frame["rows"]
    ]
    return reply_body(answers, frame["request_id"], single=bool(frame["single"]))


def reply_body(answers: "list[Any]", request_id: str, *, single: bool) -> bytes:
    """A body as `/v1/predict` sends it: one answer for a single item, else a list of them."""
    return orjson.dumps(answers[0] if single else {"request_id": request_id, "items": answers})
