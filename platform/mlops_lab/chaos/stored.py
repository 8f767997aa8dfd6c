"""The prediction log as somebody else reads it: straight from the bytes, so that a mistake in the platform's own reader hides nothing."""

import struct
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zlib import crc32

import orjson

from mlops_lab.chaos.fault import few
from mlops_lab.chaos.history import Request

_HEAD = struct.Struct("<II")
_MAGIC = b"mlplog1\n"


@dataclass
class Stored:
    """What lies in the logs of some replicas.

    Attributes:
        frames: All records, in order, per log.
        torn: A sentence per place where the bytes are no whole frame.
    """

    frames: list[dict[str, Any]] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)

    def add(self, other: "Stored") -> None:
        """Take in what lies in other logs."""
        self.frames += other.frames
        self.torn += other.torn

    @property
    def predictions(self) -> list[dict[str, Any]]:
        return [frame for frame in self.frames if frame.get("kind") == "predictions"]

    @property
    def incidents(self) -> list[dict[str, Any]]:
        return [frame for frame in self.frames if frame.get("kind") == "incident"]


def read_logs(folders: Iterable[Path]) -> Stored:
    """Read the segments of stopped replicas (a running one may be in the middle of a frame)."""
    found = Stored()
    for folder in folders:
        for path in sorted(folder.glob("*.log")):
            _read(path, found)
    return found


def _read(path: Path, into: Stored) -> None:
    content = path.read_bytes()
    if content[: len(_MAGIC)] != _MAGIC:
        into.torn.append(f"{path.name} does not begin with its mark")
        return
    at = len(_MAGIC)
    while at < len(content):
        payload = b""
        if at + _HEAD.size <= len(content):
            length, checksum = _HEAD.unpack_from(content, at)
            payload = content[at + _HEAD.size : at + _HEAD.size + length]
        if not payload or len(payload) != length or crc32(payload) != checksum:
            into.torn.append(f"{path.name} has no whole frame at byte {at} of {len(content)}")
            return
        into.frames.append(orjson.loads(payload))
        at += _HEAD.size + length


def unlogged(requests: Iterable[Request], stored: Stored) -> tuple[str, ...]:
    """What breaks the promise that every acknowledged prediction is in the log exactly once, under its request."""
    logged: Counter[str] = Counter()
    owner: dict[str, str] = {}
    for frame in stored.predictions:
        for row in frame["rows"]:
            logged[row["prediction_id"]] += 1
            owner[row["prediction_id"]] = frame["request_id"]
    lost, strange = [], []
    answered: dict[str, str] = {}
    for request in requests:
        for answer in request.acknowledged:
            identifier = answer["prediction_id"]
            whose = request.key or request.id
            if identifier not in logged:
                lost.append(f"prediction {identifier} was acknowledged to {request.id} and is not in the log")
            elif owner[identifier] != request.id and request.key is None:
                strange.append(f"prediction {identifier} of {request.id} is in the log under {owner[identifier]}")
            if answered.setdefault(identifier, whose) != whose:
                strange.append(f"prediction {identifier} was given to {answered[identifier]} and to {whose}")
    doubled = [f"prediction {identifier} is in the log {count} times" for identifier, count in logged.items() if count > 1]
    return few(lost) + few(doubled) + few(strange) + few(stored.torn)


def keys_broken(requests: Sequence[Request], stored: Stored) -> tuple[str, ...]:
    """What breaks the promise that one idempotency key has one answer and one log entry, however often it was sent."""
    entries = Counter(frame["key"] for frame in stored.predictions if frame.get("key"))
    ids: dict[str, set[str]] = {}
    for request in requests:
        if request.key is not None and request.status == 200:
            ids.setdefault(request.key, set()).add(",".join(answer["prediction_id"] for answer in request.acknowledged))
    wrong = [f"key {key} was answered with {len(found)} different ids" for key, found in ids.items() if len(found) > 1]
    wrong += [f"key {key} has {entries[key]} log entries" for key in ids if entries[key] != 1]
    return few(wrong)


def count_acknowledged(requests: Iterable[Request]) -> int:
    """Predictions that clients were given."""
    return sum(len(request.acknowledged) for request in requests)
