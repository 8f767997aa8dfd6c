"""The client's history: what was asked, what came back, when. The evidence from outside."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from mlops_lab.chaos.fault import few


@dataclass(frozen=True, slots=True)
class Request:
    """One request that was sent.

    Attributes:
        id: Its X-Request-Id.
        status: HTTP status; 0 when no whole answer came.
        body: Of the answer, or why there was none.
        sent_ns: Monotonic clock of the machine, the same for all processes.
        done_ns: The same, when the answer was whole or the failure known.
        port: Who was asked.
        key: Its Idempotency-Key, if it had one.
        retry_after: That header of the answer.
        earlier: Answers on the same connection before it.
        closing: The answer said `connection: close`.
    """

    id: str
    status: int
    body: str
    sent_ns: int
    done_ns: int
    port: int = 0
    key: str | None = None
    retry_after: str | None = None
    earlier: int = 0
    closing: bool = False

    @property
    def seconds(self) -> float:
        return (self.done_ns - self.sent_ns) / 1e9

    @property
    def acknowledged(self) -> list[dict[str, Any]]:
        """The answers of a 200, one or several; empty for anything else."""
        if self.status != 200:
            return []
        document = orjson.loads(self.body)
        return list(document["items"]) if "items" in document else [document]

    @property
    def version(self) -> int | None:
        """Who answered."""
        return next((int(answer["model_version"]) for answer in self.acknowledged), None)


def read_history(path: Path) -> list[Request]:
    """All whole lines of a history, in the order of their answers."""
    if not path.is_file():
        return []
    lines = path.read_bytes().split(b"\n")
    return [Request(**orjson.loads(line)) for line in lines[:-1]]


def failures(requests: Iterable[Request], allowed: Sequence[int] = (200,)) -> tuple[str, ...]:
    """A sentence per request that got none of the allowed statuses."""
    return few([f"request {r.id} got {r.status or 'no answer'}: {r.body[:160]}" for r in requests if r.status not in allowed])


def statuses(requests: Iterable[Request]) -> str:
    """How often each status came, for a person."""
    counted = Counter(request.status for request in requests)
    return ", ".join(f"{count} with {status or 'no answer'}" for status, count in sorted(counted.items(), reverse=True)) or "no request"


def percentile_ms(requests: Iterable[Request], share: float) -> float:
    """A quantile of the latencies of the answers with 200, in ms; 0 without any."""
    taken = sorted(request.done_ns - request.sent_ns for request in requests if request.status == 200)
    return taken[min(len(taken) - 1, int(share * len(taken)))] / 1e6 if taken else 0.0


def first_after(requests: Iterable[Request], moment_ns: int, status: int = 200) -> Request | None:
    """The first request that was answered so, and sent, after a moment."""
    found = (r for r in requests if r.status == status and r.sent_ns >= moment_ns)
    return min(found, key=lambda request: request.done_ns, default=None)
