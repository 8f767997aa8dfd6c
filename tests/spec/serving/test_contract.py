"""What a request must look like, and how a refusal names what is wrong."""

import json
from typing import Any

import pytest

from mlops_lab.serving.bodies import Bodies
from mlops_lab.serving.contract import (
    BODY_LIMITS,
    BodyLimits,
    Refusal,
    check_content_encoding,
    check_content_type,
    read_idempotency_key,
    read_request_id,
)
from mlops_lab.telemetry import read_traceparent
from serving_builders import BODIES, NOON, Queues, an_item


def refused(body: object) -> Refusal:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(Refusal) as caught:
        BODIES.predict(content)
    return caught.value


def test_a_list_and_a_single_item_are_both_understood() -> None:
    many = BODIES.predict(json.dumps({"items": [an_item(), an_item("exit")], "purpose": "probe"}).encode())
    one = BODIES.predict(json.dumps(an_item()).encode())

    assert [asked.fields["place"] for asked in many.asks] == ["gate", "exit"]
    assert (many.purpose, many.single) == ("probe", False)
    assert (one.asks[0].moment, one.purpose, one.single) == (NOON, "live", True)


def test_the_purpose_of_a_single_item_is_not_taken_for_a_field_of_it() -> None:
    request = BODIES.predict(json.dumps(an_item(purpose="probe")).encode())

    assert request.purpose == "probe"
    assert "purpose" not in request.asks[0].fields


@pytest.mark.parametrize("body", [b'{"\\u0069tems": [%s]}', b'{"purpose": "live", "items" : [%s]}', b"%s"])
def test_a_list_and_an_item_are_told_apart_by_what_they_say_not_by_how_it_is_written(body: bytes) -> None:
    item = json.dumps(an_item("items")).encode()
    request = BODIES.predict(body % item)
    assert (request.single, request.asks[0].fields["place"]) == (body == b"%s", "items")


NOT_JSON = {
    b"": "empty",
    b" \n": "empty",
    b"{": "EOF",
    b'{"place": "ga': "EOF",
    b'{"place": "\xff"}': "UTF-8",
    b'{"\xff": 1}': "UTF-8",
    '{"place": "gate"}'.encode("utf-16"): "UTF-8",
    '{"place": "gate"}'.encode("utf-16-be"): "UTF-8",
    b'\xef\xbb\xbf{"place": "gate"}': "byte order mark",
    b'{"place": "\\ud800"}': "hex escape",
    b"{}\0": "trailing",
    b"{} {}": "trailing",
    b'{"place": 1%s}' % (b"0" * 5000): "out of range",
    b"[" * 100_000: "nested too deeply",
    b'{"items":[' * 10_000: "nested too deeply",
    b"{'place': 1}": "key",
}


@pytest.mark.parametrize(("body", "why"), NOT_JSON.items())
def test_what_is_not_json_is_a_bad_request(body: bytes, why: str) -> None:
    refusal = refused(body)
    assert refusal.status == 400
    assert why in refusal.detail
    assert refusal.fields[0][0] == "body"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ([1], "body"),
        ("text", "body"),
        (None, "body"),
        (b"NaN", "body"),
        ({}, "place"),
        (b'{"place": 1e999}', "place"),
        (b'{"items": -Infinity}', "items"),
        ({"place": 10**400}, "place"),
        ({"place": "x" * 10_000, "at": "2013-04-01T12:00:00Z"}, "place"),
        ({"items": []}, "items"),
        ({"items": {}}, "items"),
        ({"items": None}, "items"),
        ({"items": [an_item()] * (BODY_LIMITS.max_items + 1)}, "items"),
        ({"items": [an_item()], "extra": 1}, "extra"),
        ({"items": [an_item()], "purpose": "fun"}, "purpose"),
        ({"items": [an_item()], "purpose": ["live"]}, "purpose"),
        ({"items": [an_item(), 7]}, "items[1]"),
        ({"items": [an_item(), an_item(), an_item(), an_item(place=5)]}, "items[3].place"),
        ({"items": [an_item(at="noon")]}, "items[0].at"),
        ({"items": [an_item(), an_item("closed")]}, "items[1].place"),
        (an_item("closed"), "place"),
        ({"items": [an_item(purpose="live")]}, "items[0].purpose"),
        ({"items": [[an_item()]]}, "items[0]"),
        ({"items": [{str(i): 0 for i in range(90_000)}]}, "items[0]"),
        ({str(i): 0 for i in range(90_000)}, "body"),
    ],
)
def test_a_wrong_field_is_named(body: object, field: str) -> None:
    refusal = refused(body)

    assert refusal.status == 422
    assert refusal.fields[0][0] == field
    assert refusal.detail.startswith(f"{field} ")


def test_several_wrong_fields_are_named_at_once_but_not_a_thousand() -> None:
    refusal = refused({"items": [an_item(place=1), an_item(), *[7] * 500]})

    assert [field for field, _ in refusal.fields] == ["items[0].place", *(f"items[{i}]" for i in range(2, 11))]


def test_a_body_of_fields_that_nobody_knows_does_not_cost_an_error_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """A megabyte of them took pydantic 0.15 s, and as long again to tell: the event loop would stand still."""
    bodies = Bodies(Queues())
    strangers = {str(i): 0 for i in range(90_000)}
    monkeypatch.setattr(bodies._one, "_validate", None)
    monkeypatch.setattr(bodies._many, "_validate", None)
    for body in (strangers, {"items": [strangers]}):
        with pytest.raises(Refusal, match="90000 fields"):
            bodies.predict(json.dumps(body).encode())


def test_a_problem_is_told_as_rfc_9457_says() -> None:
    problem = json.loads(refused({"items": [an_item(place=5)]}).body("r-1"))

    assert problem == {
        "type": "about:blank",
        "title": "Content cannot be used",
        "status": 422,
        "detail": "items[0].place must be a text, not a number. Correct it and send the request again.",
        "errors": [{"field": "items[0].place", "why": "must be a text, not a number"}],
        "request_id": "r-1",
    }


@pytest.mark.parametrize("value", [b"application/json", b"Application/JSON; charset=utf-8", b'application/json; x=1; charset="UTF-8"'])
def test_json_may_be_announced_in_these_ways(value: bytes) -> None:
    check_content_type(value)


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"text/plain",
        b"application/x-www-form-urlencoded",
        b"application/jsonp",
        b"application/json; charset=utf-16",
        b"x" * 9000,
    ],
)
def test_other_media_types_are_refused(value: bytes | None) -> None:
    with pytest.raises(Refusal) as caught:
        check_content_type(value)
    assert caught.value.status == 415
    assert len(caught.value.detail) < 250


def test_a_compressed_body_is_refused() -> None:
    check_content_encoding(b"identity")
    with pytest.raises(Refusal, match="'gzip'") as caught:
        check_content_encoding(b"gzip")
    assert caught.value.status == 415


def test_how_many_items_there_may_be_is_a_limit_that_can_be_set() -> None:
    bodies = Bodies(Queues(), BodyLimits(max_items=2))
    assert len(bodies.predict(json.dumps({"items": [an_item()] * 2}).encode()).asks) == 2
    with pytest.raises(Refusal, match="at most 2 items"):
        bodies.predict(json.dumps({"items": [an_item()] * 3}).encode())


@pytest.mark.parametrize("value", [b"", b"a b", b"x" * 129, b"\xe4", b"a\nb", b"a\n"])
def test_a_request_id_cannot_break_a_header_or_a_log(value: bytes) -> None:
    assert read_request_id(b"trace-1/2") == "trace-1/2"
    assert read_idempotency_key(b"trace-1/2") == "trace-1/2"
    for read, header in ((read_request_id, "X-Request-Id"), (read_idempotency_key, "Idempotency-Key")):
        with pytest.raises(Refusal) as caught:
            read(value)
        assert (caught.value.status, caught.value.fields[0][0]) == (422, header)


TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize("value", [TRACE, TRACE[:-2] + b"ff", b"cc" + TRACE[2:], b"01" + TRACE[2:] + b"-what-comes-later"])
def test_a_trace_context_is_read_as_far_as_it_is_understood(value: bytes) -> None:
    assert read_traceparent(value) == value[:55].decode()


@pytest.mark.parametrize(
    "value",
    [
        b"",
        TRACE[:-1],
        TRACE + b"-more",
        TRACE + b"0",
        TRACE + b"\n",
        TRACE.upper(),
        b"ff" + TRACE[2:],
        b"01" + TRACE[2:] + b".more",
        b" " + TRACE,
        b"00-" + b"0" * 32 + TRACE[35:],
        TRACE[:36] + b"0" * 16 + b"-01",
        b"00-xaf7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ],
)
def test_a_trace_context_that_is_none_is_ignored(value: bytes) -> None:
    assert read_traceparent(value) is None


FEEDBACK: dict[str, Any] = {
    "event_id": "e1",
    "prediction_id": "p1",
    "revision": 2,
    "outcome": {"long": True},
    "at": "2013-04-01T14:00:00+02:00",
}


def test_an_outcome_is_kept_with_its_moment_in_utc() -> None:
    first = {name: value for name, value in FEEDBACK.items() if name != "revision"}
    outcome, uncorrected = BODIES.feedback(json.dumps({"items": [FEEDBACK, first]}).encode())

    assert (outcome.event_id, outcome.prediction_id, outcome.revision) == ("e1", "p1", 2)
    assert (outcome.outcome, outcome.at) == ({"long": True}, "2013-04-01T12:00:00Z")
    assert uncorrected.revision == 0


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"event_id": ""}, "event_id"),
        ({"event_id": 7}, "event_id"),
        ({"event_id": "x" * 129}, "event_id"),
        ({"prediction_id": None}, "prediction_id"),
        ({"prediction_id": "\0"}, "prediction_id"),
        ({"revision": -1}, "revision"),
        ({"revision": True}, "revision"),
        ({"revision": 1.5}, "revision"),
        ({"revision": 10**400}, "revision"),
        ({"outcome": None}, "outcome"),
        ({"outcome": {}}, "outcome.long"),
        ({"outcome": {"long": 1}}, "outcome.long"),
        ({"at": "2013-04-01T12:00:00"}, "at"),
        ({"at": "0001-01-01T00:00:00+05:00"}, "at"),
        ({"at": 5}, "at"),
        ({"colour": 1}, "colour"),
    ],
)
def test_a_malformed_outcome_names_its_field(change: dict[str, object], field: str) -> None:
    with pytest.raises(Refusal) as caught:
        BODIES.feedback(json.dumps({"items": [FEEDBACK, FEEDBACK | change]}).encode())
    assert [field for field, _ in caught.value.fields] == [f"items[1].{field}"]


@pytest.mark.parametrize("body", [{}, [], {"items": [FEEDBACK], "purpose": "live"}, FEEDBACK])
def test_feedback_is_a_list_of_outcomes_and_nothing_else(body: object) -> None:
    with pytest.raises(Refusal) as caught:
        BODIES.feedback(json.dumps(body).encode())
    assert caught.value.status == 422
