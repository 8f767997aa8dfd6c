"""What a request must look like, and what a refused one is told. Bodies in, validated values out; no web framework.

The use case brings what it knows of its own items: a function from a JSON object to an `Ask`, which raises `FieldWrong`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson

from mlops_lab.features import Ask

MAX_BODY_BYTES = 1024 * 1024
MAX_ITEMS = 1000
PROBLEM_TYPE = "application/problem+json"
PURPOSES = ("live", "probe")

_MAX_NAMED = 10
_KINDS = {type(None): "null", bool: "a boolean", int: "a number", float: "a number", str: "a text", list: "a list", dict: "an object"}
_REQUEST_ID = re.compile(rb"[!-~]{1,128}")

_TRACEPARENT = re.compile(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

T = TypeVar("T")


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


ParseItem = Callable[[Mapping[str, Any]], Ask]


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


@dataclass(frozen=True, slots=True)
class PredictRequest:
    """A valid request for predictions.

    Attributes:
        asks: 1 to `MAX_ITEMS`.
        purpose: `live`, or `probe` for traffic that only tests the service and is kept out of monitoring.
        single: The body was one item, not a list, and so is the answer.
    """

    asks: list[Ask]
    purpose: str
    single: bool


def check_content_type(value: bytes | None) -> None:
    """Raises Refusal 415 unless the body is said to be JSON."""
    if value is None or value.split(b";", 1)[0].strip().lower() != b"application/json":
        said = "nothing" if value is None else f"'{value.decode('latin-1')[:100]}'"
        raise Refusal(415, "Unsupported media type", f"The body's Content-Type is {said}. Send Content-Type: application/json.")


def check_length(length: int) -> None:
    """Raises Refusal 413 when a body has more than `MAX_BODY_BYTES`."""
    if length > MAX_BODY_BYTES:
        raise Refusal(413, "Body too large", f"A body may have {MAX_BODY_BYTES} bytes. Send fewer items at once.")


def read_request_id(value: bytes) -> str:
    """The caller's `X-Request-Id`. Raises Refusal 422 when it is not 1 to 128 printable ASCII characters without spaces."""
    if not _REQUEST_ID.fullmatch(value):
        raise _unusable(("X-Request-Id", "must be 1 to 128 printable ASCII characters without spaces"))
    return value.decode("ascii")


def read_idempotency_key(value: bytes) -> str:
    """The caller's `Idempotency-Key`. Raises Refusal 422 as `read_request_id` does."""
    if not _REQUEST_ID.fullmatch(value):
        raise _unusable(("Idempotency-Key", "must be 1 to 128 printable ASCII characters without spaces"))
    return value.decode("ascii")


def read_traceparent(value: bytes) -> str | None:
    """The caller's W3C `traceparent`; None where it is not one, as the standard wants it."""
    return value.decode("ascii") if _TRACEPARENT.fullmatch(value) else None


def parse_predict(body: bytes, parse_item: ParseItem) -> PredictRequest:
    """Read the body of `/v1/predict`: `{"items": [...], "purpose": "live"}`, or one item, with or without its `purpose`.

    Raises:
        Refusal: 400 when it is not JSON, 422 with up to ten wrong fields when its content cannot be used.
    """
    document = _object(body)
    purpose = document.pop("purpose", "live")
    if purpose not in PURPOSES:
        raise _unusable(("purpose", f"must be one of: {', '.join(PURPOSES)}"))
    if "items" not in document:
        try:
            return PredictRequest([parse_item(document)], purpose, single=True)
        except FieldWrong as error:
            raise _unusable((error.field or "body", error.why)) from error
    return PredictRequest(_items(document, parse_item), purpose, single=False)


def parse_items(body: bytes, parse: Callable[[Mapping[str, Any]], T]) -> list[T]:
    """Read a body that is `{"items": [...]}` and nothing else. Raises Refusal as `parse_predict` does."""
    document = _object(body)
    if "items" not in document:
        raise _unusable(("items", "is missing: it must be a list of objects"))
    return _items(document, parse)


def _object(body: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refusal(400, "Not JSON", f"The body cannot be read as JSON: {error}.") from error
    if not isinstance(document, dict):
        raise _unusable(("body", f"must be an object, not {_kind(document)}"))
    return document


def _items(document: dict[str, Any], parse: Callable[[Mapping[str, Any]], T]) -> list[T]:
    if len(document) > 1:
        stranger = next(name for name in document if name != "items")
        raise _unusable((stranger[:100], "is not known here: expected 'items' and no other field"))
    items = document["items"]
    if not isinstance(items, list) or not 1 <= len(items) <= MAX_ITEMS:
        found = f"has {len(items)}" if isinstance(items, list) else f"is {_kind(items)}"
        raise _unusable(("items", f"must be a list of 1 to {MAX_ITEMS} objects, {found}"))
    parsed: list[T] = []
    wrong: list[tuple[str, str]] = []
    for i, item in enumerate(items):
        if not isinstance(item, dict):
            wrong.append((f"items[{i}]", f"must be an object, not {_kind(item)}"))
        else:
            try:
                parsed.append(parse(item))
            except FieldWrong as error:
                wrong.append((f"items[{i}].{error.field}" if error.field else f"items[{i}]", error.why))
        if len(wrong) == _MAX_NAMED:
            break
    if wrong:
        raise _unusable(*wrong)
    return parsed


def _unusable(*fields: tuple[str, str]) -> Refusal:
    field, why = fields[0]
    more = f" ({len(fields) - 1} more in 'errors')" if len(fields) > 1 else ""
    return Refusal(422, "Content cannot be used", f"{field} {why}{more}. Correct it and send the request again.", fields=fields)


def _kind(value: object) -> str:
    return _KINDS[type(value)]
