"""What a request must look like outside of its body, and what a refused one is told. Bodies are read by `bodies.py`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from mlops_lab.features import Ask

PROBLEM_TYPE = "application/problem+json"
UNUSABLE = "Content cannot be used"

_ECHOED = 100
_REQUEST_ID = re.compile(rb"[!-~]{1,128}")


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """How large a request may be.

    Attributes:
        max_body_bytes: Of one body.
        max_items: In one list.
    """

    max_body_bytes: int = 1024 * 1024
    max_items: int = 1000


BODY_LIMITS = BodyLimits()


class FieldWrong(ValueError):
    """One field of one item cannot be used."""

    def __init__(self, field: str, why: str) -> None:
        """Args:
        field: Its path within the item, such as `origin`; empty for the item as a whole.
        why: What it has to be, and what it is.
        """
        super().__init__(field, why)
        self.field = field
        self.why = why


class Refusal(Exception):
    """A request that gets no answer: the problem details (RFC 9457) that are sent instead."""

    def __init__(
        self, status: int, title: str, detail: str, *, fields: tuple[tuple[str, str], ...] = (), retry_after_s: int | None = None
    ) -> None:
        """Args:
        status: HTTP status.
        title: The kind of problem, the same each time.
        detail: This case of it, with what to do next.
        fields: What is wrong, as pairs of path and reason.
        retry_after_s: When to come back, where that helps.
        """
        super().__init__(detail)
        self.status = status
        self.title = title
        self.detail = detail
        self.fields = fields
        self.retry_after_s = retry_after_s

    def body(self, request_id: str | None) -> bytes:
        """The problem as JSON, with the request's id where it has one."""
        problem: dict[str, object] = {"type": "about:blank", "title": self.title, "status": self.status, "detail": self.detail}
        if self.fields:
            problem["errors"] = [{"field": field, "why": why} for field, why in self.fields]
        if request_id:
            problem["request_id"] = request_id
        return orjson.dumps(problem)


class PredictRequest(NamedTuple):
    """A valid request for predictions.

    Attributes:
        asks: 1 to `BodyLimits.max_items`.
        purpose: `live`, or `probe` for traffic that only tests the service and is kept out of monitoring.
        single: The body was one item, not a list, and so is the answer.
    """

    asks: list[Ask]
    purpose: str
    single: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """One outcome of one prediction.

    Attributes:
        event_id: Unique per event; the same id again has the effect of once.
        prediction_id: As answered; an unknown one is taken, the join decides.
        revision: Grows when the same outcome is corrected.
        outcome: As the use case describes it.
        at: Event time, ISO 8601 in UTC.
    """

    event_id: str
    prediction_id: str
    revision: int
    outcome: Mapping[str, Any]
    at: str


def check_content_type(value: bytes | None) -> None:
    """Raises Refusal 415 unless the body is said to be JSON, in UTF-8 if it says in what."""
    if value == b"application/json":
        return
    kind, _, parameters = (value or b"").lower().partition(b";")
    charset = [word.strip(b' \t"') for name, _, word in (p.partition(b"=") for p in parameters.split(b";")) if name.strip() == b"charset"]
    if kind.strip() != b"application/json" or charset not in ([], [b"utf-8"]):
        said = "nothing" if value is None else f"'{value[:_ECHOED].decode('latin-1')}'"
        raise Refusal(415, "Unsupported media type", f"The body's Content-Type is {said}. Send Content-Type: application/json, in UTF-8.")


def check_content_encoding(value: bytes) -> None:
    """Raises Refusal 415 when a body is compressed: what it would become cannot be told from its length."""
    if value.strip().lower() not in (b"", b"identity"):
        said = value[:_ECHOED].decode("latin-1")
        raise Refusal(415, "Unsupported media type", f"The body's Content-Encoding is '{said}'. Send the body as it is.")


def read_request_id(value: bytes) -> str:
    """The caller's `X-Request-Id`. Raises Refusal 422 when it is not 1 to 128 printable ASCII characters without spaces."""
    return _word("X-Request-Id", value)


def read_idempotency_key(value: bytes) -> str:
    """The caller's `Idempotency-Key`, made like a request id. Raises Refusal 422."""
    return _word("Idempotency-Key", value)


def unusable(*fields: tuple[str, str]) -> Refusal:
    """The refusal 422 of what is well-formed and wrong; at least one pair of field and reason."""
    field, why = fields[0]
    more = f" ({len(fields) - 1} more in 'errors')" if len(fields) > 1 else ""
    return Refusal(422, UNUSABLE, f"{field} {why}{more}. Correct it and send the request again.", fields=fields)


def _word(header: str, value: bytes) -> str:
    if not _REQUEST_ID.fullmatch(value):
        raise unusable((header, "must be 1 to 128 printable ASCII characters without spaces"))
    return value.decode("ascii")
