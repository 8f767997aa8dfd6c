"""Whatever is sent, the service refuses it with a reason, and what it says of itself is what it does."""

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from itertools import islice
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker, validators
from jsonschema import ValidationError as Unlike

import serving_builders
from flight_builders import BODIES
from hostile_bodies import ACCEPTED, KINDS, LARGE, hostile_bodies, one_of_each
from mlops_lab.serving.call import Call
from mlops_lab.serving.contract import Refusal
from mlops_lab.serving.openapi import document
from mlops_lab.serving.service import Service
from serving_builders import TOKEN, a_replica

DOCUMENT = document("flights", BODIES)
SCHEMAS = DOCUMENT["components"]["schemas"]
ONE, MANY, OUTCOMES = (SCHEMAS[name]["examples"][0] for name in ("OneItem", "ManyItems", "Feedback"))
ROUTES: dict[str, Callable[[bytes], object]] = {"/v1/predict": BODIES.predict, "/v1/feedback": BODIES.feedback}


def _pattern(validator: Any, pattern: str, value: object, schema: object) -> Iterator[Unlike]:
    if isinstance(value, str) and not _matches(pattern, value):
        yield Unlike(f"{value!r} does not match")


def _matches(pattern: str, value: str) -> bool:
    import re

    assert pattern.startswith("^")
    assert pattern.endswith("$")
    return re.fullmatch(pattern[1:-1], value, re.ASCII) is not None


FORMATS = FormatChecker(formats=())


@FORMATS.checks("date-time", raises=ValueError)
def _is_a_date_time(value: object) -> bool:
    if isinstance(value, str):
        datetime.strptime(value[:19], "%Y-%m-%dT%H:%M:%S")  # noqa: DTZ007  # only whether the day exists
    return True


JUDGE = validators.extend(Draft202012Validator, {"pattern": _pattern})


def judged(path: str, body: bytes) -> bool:
    """Whether the published document accepts a body."""
    try:
        value = json.loads(body.decode(), object_pairs_hook=_no_key_twice, parse_constant=_refused)
    except (ValueError, RecursionError):
        return False
    schema = DOCUMENT["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    return bool(JUDGE({**schema, "components": DOCUMENT["components"]}, format_checker=FORMATS).is_valid(value))


def _no_key_twice(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key is there twice")
    return dict(pairs)


def _refused(word: str) -> object:
    raise ValueError(word)


def read(path: str, body: bytes) -> bool:
    """Whether the service accepts a body."""
    try:
        ROUTES[path](body)
    except Refusal as refusal:
        names_what_is_wrong(refusal)
        return False
    return True


def names_what_is_wrong(refusal: Refusal) -> None:
    assert refusal.status in (400, 422)
    assert refusal.fields
    assert all(field and why for field, why in refusal.fields)
    assert len(refusal.body("r")) < 8000


def from_schema(schema: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """Values that a schema accepts; of date-times also such as the 31st of April."""
    if "$ref" in schema:
        return from_schema(SCHEMAS[schema["$ref"].rpartition("/")[2]])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "anyOf" in schema:
        return st.one_of([from_schema(each) for each in schema["anyOf"]])
    match schema["type"]:
        case "object":
            fields = {name: from_schema(field) for name, field in schema["properties"].items()}
            required = {name: fields.pop(name) for name in schema["required"]}
            return st.fixed_dictionaries(required, optional=fields)
        case "array":
            return st.lists(from_schema(schema["items"]), min_size=schema["minItems"], max_size=4)
        case "string":
            return st.from_regex(schema["pattern"].replace("$", r"\Z"), alphabet=st.characters(codec="ascii"))
        case "integer":
            whole = st.integers(schema["minimum"], schema["maximum"])
            return whole | whole.map(float)
        case "number":
            return st.floats(schema["minimum"], schema["maximum"]) | st.integers(schema["minimum"], schema["maximum"])
        case "null":
            return st.none()
    raise AssertionError(schema)


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from(
        [0, 2**31, 2**63, 10**400, 12.0, 12.5, 1e308, "12", "719", "1372685400", "2013-02-30T00:00:00Z", "EWR\n", "", "x" * 10_000]
    ),
    st.floats(allow_nan=True),
    st.text(max_size=12),
    st.lists(st.none(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.none(), max_size=2),
)


@st.composite
def bodies(draw: st.DrawFn, *forms: str) -> bytes:
    """As the document describes them; half of them with something changed."""
    value = draw(from_schema(SCHEMAS[draw(st.sampled_from(forms))]))
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 2]))):
        place = value
        while True:
            steps = list(place) if isinstance(place, dict) else list(range(len(place)))
            step = draw(st.sampled_from(steps)) if steps else None
            if step is None or not (isinstance(place[step], dict | list) and draw(st.booleans())):
                break
            place = place[step]
        what = draw(st.sampled_from(["replace", "drop", "add", "move"]))
        if what == "replace" and step is not None:
            place[step] = draw(ODD)
        elif what == "drop" and step is not None:
            del place[step]
        elif what == "add" and isinstance(place, dict):
            place[draw(st.text(max_size=8))] = draw(ODD)
        elif what == "move" and isinstance(place, dict) and step is not None:
            place[str(step) + draw(st.sampled_from([" ", "s", ""]))] = place.pop(step)
    blank = draw(st.sampled_from(["", " ", "\n\t"]))
    return json.dumps(value, ensure_ascii=draw(st.booleans()), separators=(blank + ",", blank + ":")).encode("utf-8", "replace")


def an_outcome(delay: object) -> bytes:
    return json.dumps({"items": [OUTCOMES["items"][0] | {"outcome": {"arrival_delay_min": delay}}]}).encode()


@settings(max_examples=200, deadline=None)
@given(bodies("OneItem", "ManyItems"))
@example(json.dumps(ONE).encode())
@example(json.dumps(MANY).encode())
@example(json.dumps(ONE | {"distance_miles": "719"}).encode())
@example(json.dumps(ONE | {"scheduled_departure": "1372685400"}).encode())
@example(json.dumps(ONE | {"origin": "EWR\n"}).encode())
def test_questions_are_accepted_exactly_when_the_document_accepts_them(body: bytes) -> None:
    assert read("/v1/predict", body) == judged("/v1/predict", body)


@settings(max_examples=100, deadline=None)
@given(bodies("Feedback"))
@example(json.dumps(OUTCOMES).encode())
@example(an_outcome(12.0))
@example(an_outcome(12.5))
@example(an_outcome("12"))
@example(an_outcome(True))
def test_outcomes_are_accepted_exactly_when_the_document_accepts_them(body: bytes) -> None:
    assert read("/v1/feedback", body) == judged("/v1/feedback", body)


@pytest.mark.parametrize(("path", "valid"), [("/v1/predict", ONE), ("/v1/predict", MANY), ("/v1/feedback", OUTCOMES)])
def test_hostile_bodies_are_refused_as_the_document_refuses_them(path: str, valid: dict[str, Any]) -> None:
    counted = dict.fromkeys((True, False), 0)
    for hostile in islice(hostile_bodies(valid, seed=11, large=False), 1500):
        if hostile.headers == {"content-type": "application/json"}:
            accepted = read(path, hostile.body)
            assert accepted == judged(path, hostile.body), hostile
            assert not accepted or hostile.expected & ACCEPTED, hostile
            counted[accepted] += 1
    assert counted[False] > 1000


def test_every_example_of_the_document_is_one() -> None:
    for name in ("OneItem", "ManyItems"):
        assert read("/v1/predict", json.dumps(SCHEMAS[name]["examples"][0]).encode())
    assert read("/v1/feedback", json.dumps(OUTCOMES).encode())
    for name, schema in SCHEMAS.items():
        for shown in schema.get("examples", ()):
            JUDGE({"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}, format_checker=FORMATS).validate(shown)
    Draft202012Validator.check_schema({"$defs": SCHEMAS})


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    replica = a_replica(tmp_path_factory.mktemp("hostile"))
    replica.follow()
    yield Service(replica.parts)
    replica.parts.log.close()


QUEUES = document("queues", serving_builders.BODIES)["components"]["schemas"]


@pytest.mark.parametrize(("route", "form"), [("predict", "OneItem"), ("predict", "ManyItems"), ("feedback", "Feedback")])
def test_every_kind_of_hostile_request_gets_a_problem_that_says_why(service: Service, route: str, form: str) -> None:
    valid = QUEUES[form]["examples"][0]
    for seed in range(3):
        for hostile in one_of_each(valid, seed):
            if hostile.expected == {413}:
                continue  # the socket's work
            headers = [(name.encode(), value.encode("latin-1")) for name, value in hostile.headers.items()]
            reply = service.answer(Call(route, [*headers, (b"authorization", b"Bearer " + TOKEN.encode())], hostile.body))
            assert reply.status in hostile.expected, hostile
            if reply.status >= 400:
                problem = json.loads(reply.body)
                assert problem["status"] == reply.status
                assert len(problem["detail"]) < 400, problem
                assert "x" * 101 not in reply.body.decode()
                assert "Traceback" not in reply.body.decode()


def test_the_same_seed_makes_the_same_requests_and_every_kind_among_them() -> None:
    once, again = (list(islice(hostile_bodies(ONE, seed=5, large=False), 600)) for _ in range(2))
    assert once == again
    assert {hostile.name for hostile in once} == KINDS.keys() - LARGE
