"""What a request must look like, and how a refusal names what is wrong."""

import json

import pytest

from mlops_lab.serving.contract import (
    MAX_BODY_BYTES,
    MAX_ITEMS,
    Refusal,
    check_content_type,
    check_length,
    parse_predict,
    read_request_id,
)
from mlops_lab.serving.feedback import parse_feedback_item
from serving_builders import NOON, Queues, an_item

ask = Queues().ask


def refused(body: object) -> Refusal:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(Refusal) as caught:
        parse_predict(content, ask)
    return caught.value


def test_a_list_and_a_single_item_are_both_understood() -> None:
    many = parse_predict(json.dumps({"items": [an_item(), an_item("exit")], "purpose": "probe"}).encode(), ask)
    one = parse_predict(json.dumps(an_item()).encode(), ask)

    assert [asked.fields["place"] for asked in many.asks] == ["gate", "exit"]
    assert (many.purpose, many.single) == ("probe", False)
    assert (one.asks[0].moment, one.purpose, one.single) == (NOON, "live", True)


def test_the_purpose_of_a_single_item_is_not_taken_for_a_field_of_it() -> None:
    seen: list[dict[str, object]] = []

    def look(item: object) -> object:
        seen.append(dict(item))  # type: ignore[call-overload]
        return ask(item)  # type: ignore[arg-type]

    request = parse_predict(json.dumps(an_item(purpose="probe")).encode(), look)  # type: ignore[arg-type]

    assert request.purpose == "probe"
    assert "purpose" not in seen[0]


@pytest.mark.parametrize("body", [b"", b"{", b"NaN", b'{"a": 1e999}', b'{"place": "\xff"}', b"[" * 100_000])
def test_what_is_not_json_is_a_bad_request(body: bytes) -> None:
    assert refused(body).status == 400


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ([1], "body"),
        ("text", "body"),
        (None, "body"),
        ({}, "place"),
        ({"items": []}, "items"),
        ({"items": {}}, "items"),
        ({"items": None}, "items"),
        ({"items": [an_item()] * (MAX_ITEMS + 1)}, "items"),
        ({"items": [an_item()], "extra": 1}, "extra"),
        ({"items": [an_item()], "purpose": "fun"}, "purpose"),
        ({"items": [an_item()], "purpose": ["live"]}, "purpose"),
        ({"items": [an_item(), 7]}, "items[1]"),
        ({"items": [an_item(), an_item(), an_item(), an_item(place=5)]}, "items[3].place"),
        ({"items": [an_item(at="noon")]}, "items[0].at"),
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


def test_a_problem_is_told_as_rfc_9457_says() -> None:
    problem = json.loads(refused({"items": [an_item(place=5)]}).body("r-1"))

    assert problem == {
        "type": "about:blank",
        "title": "Content cannot be used",
        "status": 422,
        "detail": "items[0].place must be a text. Correct it and send the request again.",
        "errors": [{"field": "items[0].place", "why": "must be a text"}],
        "request_id": "r-1",
    }


@pytest.mark.parametrize("value", [b"application/json", b"Application/JSON; charset=utf-8"])
def test_json_may_be_announced_in_these_ways(value: bytes) -> None:
    check_content_type(value)


@pytest.mark.parametrize("value", [None, b"", b"text/plain", b"application/x-www-form-urlencoded", b"application/jsonp"])
def test_other_media_types_are_refused(value: bytes | None) -> None:
    with pytest.raises(Refusal) as caught:
        check_content_type(value)
    assert caught.value.status == 415


def test_a_body_has_a_limit() -> None:
    check_length(MAX_BODY_BYTES)
    with pytest.raises(Refusal) as caught:
        check_length(MAX_BODY_BYTES + 1)
    assert caught.value.status == 413


@pytest.mark.parametrize("value", [b"", b"a b", b"x" * 129, b"\xe4", b"a\nb", b"a\n"])
def test_a_request_id_cannot_break_a_header_or_a_log(value: bytes) -> None:
    assert read_request_id(b"trace-1/2") == "trace-1/2"
    with pytest.raises(Refusal) as caught:
        read_request_id(value)
    assert caught.value.status == 422


FEEDBACK = {"event_id": "e1", "prediction_id": "p1", "revision": 2, "outcome": {"long": True}, "at": "2013-04-01T14:00:00+02:00"}


def test_an_outcome_is_kept_with_its_moment_in_utc() -> None:
    outcome = parse_feedback_item(FEEDBACK, Queues().outcome)

    assert (outcome.event_id, outcome.prediction_id, outcome.revision) == ("e1", "p1", 2)
    assert (outcome.outcome, outcome.at) == ({"long": True}, "2013-04-01T12:00:00Z")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"event_id": ""}, "event_id"),
        ({"event_id": 7}, "event_id"),
        ({"event_id": "x" * 129}, "event_id"),
        ({"prediction_id": None}, "prediction_id"),
        ({"revision": -1}, "revision"),
        ({"revision": True}, "revision"),
        ({"revision": 1.5}, "revision"),
        ({"outcome": None}, "outcome"),
        ({"outcome": {}}, "outcome.long"),
        ({"at": "2013-04-01T12:00:00"}, "at"),
        ({"at": "0001-01-01T00:00:00+05:00"}, "at"),
        ({"at": 5}, "at"),
        ({"colour": 1}, "colour"),
    ],
)
def test_a_malformed_outcome_names_its_field(change: dict[str, object], field: str) -> None:
    from mlops_lab.serving.contract import FieldWrong

    with pytest.raises(FieldWrong) as caught:
        parse_feedback_item(FEEDBACK | change, Queues().outcome)
    assert caught.value.field == field
