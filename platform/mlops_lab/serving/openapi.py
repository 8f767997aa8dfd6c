"""The document of the service (OpenAPI 3.1), whole and without a web framework. Bodies come from the types that read them."""

from collections.abc import Mapping
from typing import Any

from mlops_lab.features.policy import STATES
from mlops_lab.serving.bodies import Bodies
from mlops_lab.serving.contract import PROBLEM_TYPE

_TEXT = {"type": "string"}
_TEXTS = {"type": "array", "items": _TEXT}
_STATE = {"type": "string", "description": "`ok` and `up` are well, `none` and `unused` are no trouble; others say what is wrong."}
_COUNT = {"type": "integer", "minimum": 0}
_WORD = {"type": "string", "pattern": "^[!-~]{1,128}$"}

_AN_ANSWER = {
    "prediction_id": "1c0b2f7f6d1f3a5e9a77b3c40000",
    "probability": 0.2731,
    "model_version": 3,
    "variant": "champion",
    "feature_ages_s": {"weather": 2160.0, "aircraft": None},
    "feature_state": "fresh",
}
_A_PROBLEM = {
    "type": "about:blank",
    "title": "Content cannot be used",
    "status": 422,
    "detail": "items[0].origin must match ^[A-Z0-9]{3}$, such as EWR. Correct it and send the request again.",
    "errors": [{"field": "items[0].origin", "why": "must match ^[A-Z0-9]{3}$, such as EWR"}],
    "request_id": "r-1",
}
_A_MODEL = {
    "model": "flight-delay",
    "version": 3,
    "scorer_sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "assignment": 5,
    "assigned_at": "2013-07-01T00:00:00Z",
    "known_at": "2026-11-23T09:00:00Z",
    "known_age_s": 0.412,
    "features": ["carrier", "origin"],
    "swaps": 2,
    "degraded": [],
}
_THE_DEPENDENCIES = {
    "model": {"state": "ok", "version": 3},
    "log": {"state": "ok", "bytes": 48_210, "durability": "process"},
    "features": {
        "state": "ok",
        "store": "redis://127.0.0.1:6379/0",
        "watermark": "2013-07-01T12:20:00Z",
        "written_at": "2026-11-23T09:00:00Z",
        "written_age_s": 0.731,
    },
    "ledger": {"state": "up", "knowledge_age_s": 0.412},
    "store": {"state": "ok"},
    "pin": {"state": "none"},
}


def _object(description: str, required: Mapping[str, Any], optional: Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """An object of a reply. It may have more fields one day, so callers must not rely on it being closed."""
    properties = {**required, **(optional or {})}
    return {"type": "object", "description": description, "required": list(required), "properties": properties, **more}


_ANSWER = _object(
    "What a caller gets for one item.",
    {
        "prediction_id": {"type": "string", "description": "Names this answer in feedback and in the prediction log."},
        "probability": {"type": "number", "minimum": 0, "maximum": 1},
        "model_version": {"type": "integer", "minimum": 1},
        "variant": {"type": "string", "enum": ["champion", "canary"]},
        "feature_ages_s": {
            "type": "object",
            "additionalProperties": {"type": ["number", "null"]},
            "description": "By source, event-time seconds since the newest fact used; null when nothing was known.",
        },
        "feature_state": {
            "type": "string",
            "enum": list(STATES),
            "description": "What the stream of facts was worth: `fresh`, it had reached the question's moment; `stale`, it had not, and "
            "what there is was used; `absent`, nothing of it was known.",
        },
    },
    examples=[_AN_ANSWER],
)
_REPLIES = {
    "Answer": _ANSWER,
    "Answers": _object(
        "In the order of the items.",
        {"request_id": _TEXT, "items": {"type": "array", "minItems": 1, "items": {"$ref": "#/components/schemas/Answer"}}},
        examples=[{"request_id": "r-1", "items": [_AN_ANSWER]}],
    ),
    "Accepted": _object(
        "What became of the outcomes.",
        {"request_id": _TEXT, "accepted": _COUNT, "known_already": _COUNT},
        examples=[{"request_id": "r-1", "accepted": 1, "known_already": 0}],
    ),
    "Model": _object(
        "What answers now, since when, and how old the knowledge of the ledger is.",
        {
            "model": _TEXT,
            "version": {"type": "integer", "minimum": 1},
            "scorer_sha256": _TEXT,
            "assignment": {"type": "integer"},
            "assigned_at": {"type": "string", "format": "date-time"},
            "known_at": {"type": ["string", "null"], "format": "date-time"},
            "known_age_s": {"type": ["number", "null"]},
            "features": _TEXTS,
            "swaps": _COUNT,
            "degraded": _TEXTS,
        },
        examples=[_A_MODEL],
    ),
    "Alive": _object("The process answers.", {"status": {"const": "ok"}}, examples=[{"status": "ok"}]),
    "Dependencies": {
        "type": "object",
        "description": "What the service leans on, by name.",
        "additionalProperties": _object("One of them, with figures of its own.", {"state": _STATE}, {"why": _TEXT}),
        "examples": [_THE_DEPENDENCIES],
    },
    "Ready": _object(
        "Predictions can be answered and logged. What is degraded is named and does not make it unready.",
        {"status": {"const": "ready"}, "dependencies": {"$ref": "#/components/schemas/Dependencies"}, "degraded": _TEXTS},
        examples=[{"status": "ready", "dependencies": _THE_DEPENDENCIES, "degraded": []}],
    ),
    "Problem": _object(
        "Problem details, RFC 9457.",
        {"type": _TEXT, "title": _TEXT, "status": {"type": "integer"}, "detail": _TEXT},
        {
            "errors": {
                "type": "array",
                "maxItems": 10,
                "items": _object("One wrong field.", {"field": _TEXT, "why": _TEXT}),
            },
            "request_id": _TEXT,
            "dependencies": {"$ref": "#/components/schemas/Dependencies"},
        },
        examples=[_A_PROBLEM],
    ),
}

_HEADERS = {
    "X-Request-Id": "Comes back in the reply and is in the prediction log; made when it is missing.",
    "Idempotency-Key": "The same key with the same body gives the same answer and one entry of the log.",
}
_REQUEST_ID_BACK = {"X-Request-Id": {"description": "As sent, or as made.", "schema": _WORD}}
_REPLAYED = {"Idempotent-Replayed": {"description": "The answer was given before, under the same key.", "schema": {"const": "true"}}}
_RETRY = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}}
_REFUSALS: dict[int, tuple[str, dict[str, Any]]] = {
    400: ("The body is not JSON, or not in UTF-8.", {}),
    401: ("The token is missing or wrong.", {"WWW-Authenticate": {"schema": {"const": "Bearer"}}}),
    408: ("The request did not arrive in time.", {}),
    413: ("The body is too large.", {}),
    415: ("The body is not said to be JSON in UTF-8, or is compressed.", {}),
    422: ("A field or a header cannot be used; `errors` names it.", {}),
    429: ("More requests than can be answered in time.", _RETRY),
    431: ("The request line and headers are too large, or too many.", {}),
    500: ("A fault of the service; its log has the reason under the request id.", {}),
    503: ("No model is in place, or the prediction log cannot be written.", _RETRY),
}
_ANYWHERE = {
    404: ("NoSuchAddress", "There is no such address."),
    405: ("NoSuchMethod", "The address does not take that method; `Allow` names those that it takes."),
}


def document(title: str, bodies: Bodies) -> dict[str, Any]:
    """The whole document.

    Args:
        title: Of the documentation page.
        bodies: What reads the requests of this use case.
    """
    schemas = {**bodies.schemas("#/components/schemas/{model}"), **_REPLIES}
    one, many, feedback = (schemas[name]["examples"][0] for name in ("OneItem", "ManyItems", "Feedback"))
    answered = _json(
        {"oneOf": [_ref("Answers"), _ref("Answer")]}, {"one": _AN_ANSWER, "many": {"request_id": "r-1", "items": [_AN_ANSWER]}}
    )
    predict = _operation(
        "predict",
        f"Answer 1 to {bodies.limits.max_items} items. Every answer is in the prediction log before it is sent.",
        {"200": _response("One answer, or answers in the order of the items.", answered, {**_REQUEST_ID_BACK, **_REPLAYED})},
        (400, 408, 413, 415, 422, 429, 431, 500, 503),
        headers=("X-Request-Id", "Idempotency-Key", "traceparent"),
        body=_json({"oneOf": [_ref("ManyItems"), _ref("OneItem")]}, {"one": one, "many": many}),
    )
    accept = _operation(
        "feedback",
        "Take outcomes of earlier answers, in any order, late or repeated. Accepted ones are logged before the reply.",
        {"202": _response("Logged.", _json(_ref("Accepted")), _REQUEST_ID_BACK)},
        (400, 401, 408, 413, 415, 422, 429, 431, 500, 503),
        headers=("X-Request-Id",),
        body=_json(_ref("Feedback"), {"one": feedback}),
        security=[{"token": []}],
    )
    model = {"200": _response("The model in place.", _json(_ref("Model")))}
    ready = {"200": _response("Ready.", _json(_ref("Ready")))}
    page = {"200": _response("Text for Prometheus.", {"text/plain": {"schema": _TEXT}})}
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": "1", "description": _ABOUT.format(bytes=bodies.limits.max_body_bytes)},
        "paths": {
            "/v1/predict": {"post": predict},
            "/v1/feedback": {"post": accept},
            "/v1/model": {"get": _operation("model", "What answers now.", model, (500, 503))},
            "/healthz": {"get": _operation("healthz", "The process answers.", {"200": _response("Alive.", _json(_ref("Alive")))}, ())},
            "/readyz": {"get": _operation("readyz", "Predictions can be answered and logged.", ready, (500, 503))},
            "/metrics": {"get": _operation("metrics", "Prometheus metrics.", page, ())},
        },
        "components": {
            "schemas": schemas,
            "responses": {name: _problem(text, {}) for name, text in _ANYWHERE.values()},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "The feedback token of this service."}},
        },
    }


_ABOUT = """Every refusal is a problem (RFC 9457) that names what is wrong. Beyond what the schemas say:

- A body is JSON in UTF-8 without a byte order mark, of at most {bytes} bytes, not compressed, and no object has a key twice.
- A date-time exists: 2013-02-29 does not.
- An unknown address is a 404, another method a 405 with `Allow`, both as problems.
"""
_TRACEPARENT = "W3C Trace Context: goes into the prediction log. An invalid one is ignored, as the standard asks."


def _operation(
    name: str,
    summary: str,
    replies: Mapping[str, Any],
    refusals: tuple[int, ...],
    *,
    headers: tuple[str, ...] = (),
    body: Mapping[str, Any] | None = None,
    **more: Any,
) -> dict[str, Any]:
    refused = {str(status): _problem(*_REFUSALS[status]) for status in refusals}
    anywhere = {str(status): {"$ref": f"#/components/responses/{known}"} for status, (known, _) in _ANYWHERE.items() if status == 405}
    operation: dict[str, Any] = {"operationId": name, "summary": summary, "responses": {**replies, **anywhere, **refused}, **more}
    if headers:
        operation["parameters"] = [
            {
                "name": header,
                "in": "header",
                "required": False,
                "schema": _WORD if header in _HEADERS else _TEXT,
                "description": _HEADERS.get(header, _TRACEPARENT),
            }
            for header in headers
        ]
    if body is not None:
        operation["requestBody"] = {"required": True, "content": body}
    return operation


def _problem(description: str, headers: Mapping[str, Any]) -> dict[str, Any]:
    return _response(description, {PROBLEM_TYPE: {"schema": _ref("Problem")}}, headers)


def _response(description: str, content: Mapping[str, Any], headers: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return {"description": description, "content": content, **({"headers": headers} if headers else {})}


def _json(schema: Mapping[str, Any], examples: Mapping[str, Any] | None = None) -> dict[str, Any]:
    shown = {"examples": {name: {"value": value} for name, value in examples.items()}} if examples else {}
    return {"application/json": {"schema": schema, **shown}}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
