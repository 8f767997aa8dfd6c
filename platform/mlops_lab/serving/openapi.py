"""What the documentation page says about bodies. Requests are checked by `contract.py`; this only describes it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mlops_lab.serving.contract import MAX_ITEMS, PROBLEM_TYPE, PURPOSES

_TEXT = {"type": "string"}
_REQUEST_ID_HEADER = {
    "name": "X-Request-Id",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": 128},
    "description": "Comes back in the reply and is in the prediction log; made when it is missing.",
}
_PROBLEM = {
    "type": "object",
    "description": "Problem details, RFC 9457.",
    "properties": {
        "type": _TEXT,
        "title": _TEXT,
        "status": {"type": "integer"},
        "detail": _TEXT,
        "request_id": _TEXT,
        "errors": {"type": "array", "items": {"type": "object", "properties": {"field": _TEXT, "why": _TEXT}}},
    },
}
_ANSWER = {
    "type": "object",
    "properties": {
        "prediction_id": {"type": "string", "description": "Names this answer in feedback and in the prediction log."},
        "probability": {"type": "number", "minimum": 0, "maximum": 1},
        "model_version": {"type": "integer"},
        "variant": {"type": "string", "enum": ["champion"]},
        "feature_ages_s": {
            "type": "object",
            "additionalProperties": {"type": ["number", "null"]},
            "description": "By source, event-time seconds since the newest fact used; null when nothing was known.",
        },
    },
}
_REFUSALS = {
    400: "The body is not JSON.",
    413: "The body is too large.",
    415: "The body is not said to be JSON.",
    422: "A field cannot be used; `errors` names it.",
    503: "No model is in place, or the prediction log cannot be written; come back after `Retry-After` seconds.",
}


@dataclass(frozen=True, slots=True)
class Documentation:
    """What a use case may say about its bodies, as JSON Schema; its own parsing decides what is accepted.

    Attributes:
        title: Heading of the page.
        item: One item of a request.
        outcome: What a feedback item says happened.
    """

    title: str = "mlops-lab"
    item: Mapping[str, Any] = field(default_factory=lambda: {"type": "object"})
    outcome: Mapping[str, Any] = field(default_factory=lambda: {"type": "object"})


def predict_operation(item: Mapping[str, Any]) -> dict[str, Any]:
    """The description of `POST /v1/predict` for a use case's item."""
    purpose = {"type": "string", "enum": list(PURPOSES), "default": "live"}
    many = {
        "type": "object",
        "required": ["items"],
        "properties": {"items": {"type": "array", "minItems": 1, "maxItems": MAX_ITEMS, "items": dict(item)}, "purpose": purpose},
    }
    one = {**item, "properties": {**item.get("properties", {}), "purpose": purpose}}
    answers = {"type": "object", "properties": {"request_id": _TEXT, "items": {"type": "array", "items": _ANSWER}}}
    responses = {"200": _response("Answers, in the order of the items.", {"oneOf": [answers, _ANSWER]}), **_refusals()}
    return {"parameters": [_REQUEST_ID_HEADER], "requestBody": _body({"oneOf": [many, one]}), "responses": responses}


def feedback_operation(outcome: Mapping[str, Any]) -> dict[str, Any]:
    """The description of `POST /v1/feedback` for a use case's outcome."""
    item = {
        "type": "object",
        "required": ["event_id", "prediction_id", "outcome", "at"],
        "properties": {
            "event_id": {"type": "string", "maxLength": 128, "description": "Unique per event; sending it again changes nothing."},
            "prediction_id": {"type": "string", "maxLength": 128},
            "revision": {"type": "integer", "minimum": 0, "default": 0, "description": "Grows with each correction; the highest counts."},
            "outcome": dict(outcome),
            "at": {"type": "string", "format": "date-time", "description": "Event time."},
        },
    }
    body = {
        "type": "object",
        "required": ["items"],
        "properties": {"items": {"type": "array", "minItems": 1, "maxItems": MAX_ITEMS, "items": item}},
    }
    counted = {"type": "object", "properties": {"request_id": _TEXT, "accepted": {"type": "integer"}, "known_already": {"type": "integer"}}}
    unknown = _response("The token is missing or wrong.", _PROBLEM, PROBLEM_TYPE)
    responses = {"202": _response("Logged.", counted), "401": unknown, **_refusals()}
    authorization = {"name": "Authorization", "in": "header", "required": True, "schema": _TEXT, "description": "Bearer <feedback token>"}
    return {"parameters": [authorization, _REQUEST_ID_HEADER], "requestBody": _body(body), "responses": responses}


def _refusals() -> dict[str, Any]:
    return {str(status): _response(text, _PROBLEM, PROBLEM_TYPE) for status, text in _REFUSALS.items()}


def _body(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _response(text: str, schema: Mapping[str, Any], media_type: str = "application/json") -> dict[str, Any]:
    return {"description": text, "content": {media_type: {"schema": schema}}}
