"""Evidence from outside, as a client and a log would leave it, to be doctored."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson

from mlops_lab.chaos.fault import Finding
from mlops_lab.chaos.history import Request
from mlops_lab.chaos.stored import Stored

SECOND = 1_000_000_000


def an_answer(number: int, at_s: float = 1.0, version: int = 1, **changes: Any) -> Request:
    """A request that got its 200, sent at a second and answered 10 ms later."""
    body = orjson.dumps({"prediction_id": f"p{number}", "probability": 0.5, "model_version": version}).decode()
    sent = int(at_s * SECOND)
    return replace(Request(f"r{number}", 200, body, sent, sent + SECOND // 100, port=1), **changes)


def a_refusal(number: int, at_s: float, status: int = 503, retry_after: str | None = "1") -> Request:
    sent = int(at_s * SECOND)
    return Request(f"r{number}", status, "{}", sent, sent + SECOND // 100, port=1, retry_after=retry_after)


def a_record(number: int, request: str | None = None, key: str | None = None) -> dict[str, Any]:
    record = {"kind": "predictions", "request_id": request or f"r{number}", "rows": [{"prediction_id": f"p{number}"}]}
    return record | ({"key": key} if key else {})


def a_log(*numbers: int) -> Stored:
    return Stored([a_record(number) for number in numbers])


def broken(finding: Finding | Sequence[str]) -> str:
    return " | ".join(finding.broken if isinstance(finding, Finding) else finding)
