"""The types of events of this platform: everything that is published has one, and a published schema never breaks."""

import ast
import importlib
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NotRequired

import jsonschema
import pytest
from pydantic import Field
from typing_extensions import TypedDict

import mlops_lab
from flight_builders import a_flight, a_year, arrived, departed, messages_of, observed
from mlops_lab.bootstrap.events import event_types
from mlops_lab.errors import EventRefused, SchemaBroken
from mlops_lab.events import OBSERVATIONS, REFERENCES, SCHEDULE, Message
from mlops_lab.events.published import breaks, publish, require_compatible, versions, written
from mlops_lab.events.schema import EventType, closed, field, subject
from mlops_lab.events.topics import TOPICS
from mlops_lab.flights import messages
from mlops_lab.flights.facts import LISTED
from mlops_lab.flights.online_usecase import FlightsOnline
from mlops_lab.pipelines.orders import IngestBatch, PromoteModel, TrainModel
from mlops_lab.pipelines.watch import FACTS_OF
from mlops_lab.registry.ledger import event_of
from mlops_lab.registry.on_sql import _EVENT_OF
from mlops_lab.registry.version import Role

TYPES = event_types(FlightsOnline())
SCHEMAS = Path(__file__).parents[2] / "platform" / "schemas"
PACKAGE = Path(mlops_lab.__file__).parent
AT = datetime(2013, 7, 1, 12, tzinfo=UTC)

CHOSEN_WHILE_RUNNING = {
    "pipelines/orders.py": {order.TYPE for order in (IngestBatch, TrainModel, PromoteModel)},
    "pipelines/watch.py": set(FACTS_OF.values()),
    "chaos/buses.py": {"WeatherObserved"},
    "registry/on_sql.py": {
        "ModelRegistered",
        *_EVENT_OF.values(),
        *(event_of(role, kind) for role in Role for kind in ("promotion", "rollback", "override")),
    },
    "events/message.py": set(),
    "events/on_sqlite.py": set(),
    "events/on_kafka.py": set(),
}
"""Modules that make messages whose type is no constant, with all the types that it can be; what is only read back has none."""


def made() -> Iterator[tuple[str, ast.expr]]:
    """Every place in the platform's code that makes a message, with the expression for its type."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Message":
                kind = node.args[0] if node.args else next(word.value for word in node.keywords if word.arg == "type")
                yield path.relative_to(PACKAGE).as_posix(), kind


def published() -> Iterator[tuple[str, str]]:
    """Every type that the platform's code can publish, with the module that does."""
    for module, kind in made():
        if isinstance(kind, ast.Constant):
            yield module, str(kind.value)
            continue
        known = vars(importlib.import_module(f"mlops_lab.{module.removesuffix('.py').replace('/', '.')}"))
        found = eval(compile(ast.Expression(kind), module, "eval"), dict(known)) if _is_constant(kind, known) else None
        if isinstance(found, str):
            yield module, found
        else:
            assert module in CHOSEN_WHILE_RUNNING, f"{module} makes messages of type `{ast.unparse(kind)}`: say which these can be"
            yield from ((module, name) for name in CHOSEN_WHILE_RUNNING[module])


def _is_constant(kind: ast.expr, known: dict[str, Any]) -> bool:
    begin = kind.value if isinstance(kind, ast.Attribute) else kind
    return isinstance(begin, ast.Name) and begin.id in known


def test_every_type_that_is_published_has_a_schema() -> None:
    found = set(published())

    assert len(found) > 20
    assert {name for _, name in found if name not in TYPES} == set()


def test_every_schema_is_of_a_type_that_is_published() -> None:
    """OutcomeReported is made from what callers report; the others by name."""
    assert {each.name for each in TYPES} - {name for _, name in published()} <= {"OutcomeReported"}


@pytest.mark.parametrize("each", list(TYPES), ids=lambda each: each.name)
def test_a_type_is_whole(each: EventType) -> None:
    """It has a topic, a sentence, and an example that both the parser and its published JSON Schema take."""
    topic = each.topic if each.topic in TOPICS else "observations.dead"
    assert each.belongs_on(topic)
    assert each.meaning.endswith(".")
    jsonschema.Draft202012Validator.check_schema(each.json_schema())
    jsonschema.validate(dict(each.example), each.json_schema())
    probe = Message(each.name, AT, "EWR", dict(each.example))
    right = each.subject.of(probe) or "EWR"
    probe = replace(probe, subject=right)
    TYPES.checked(replace(probe, partition_key=each.key.of(probe) or "", version=each.version), topic)


@pytest.mark.parametrize("each", list(TYPES), ids=lambda each: each.name)
def test_parser_and_json_schema_refuse_the_same(each: EventType) -> None:
    """Each field left out, null, of another type; and a field too many."""
    validator = jsonschema.Draft202012Validator(each.json_schema())
    data = dict(each.example)
    spoilt = [{**data, "more": 1}]
    for name in data:
        spoilt += [{key: value for key, value in data.items() if key != name}]
        spoilt += [data | {name: value} for value in (None, "", "x" * 500, -1, 1.5, True, [], {}, ["x"], 10**30)]
    for one in spoilt:
        try:
            each.validator.validate_python(one)
            takes = True
        except ValueError:
            takes = False
        assert takes == validator.is_valid(one), one


def test_the_schema_of_a_message_is_the_one_it_names() -> None:
    [fact] = messages_of(a_year([departed(AT, 5)]))

    assert fact.dataschema == TYPES.named(fact.type).json_schema()["$id"]


# --- flights ----------------------------------------------------------------------------------------------------------------------


def facts(*flights: dict[str, Any]) -> list[Message]:
    return messages_of(a_year(flights))


def test_facts_of_flights_are_what_their_types_say() -> None:
    year = a_year([departed(AT, 5), arrived(AT, -3), departed(AT, 1, tail_number=None)], [observed(AT, 70.0)], [("N1", 149.0, None)])
    found = messages_of(year)

    assert len(found) == 5
    for fact in found:
        TYPES.checked(fact, REFERENCES if fact.type == LISTED else OBSERVATIONS)


def test_what_happens_to_an_aircraft_has_one_key_whoever_it_happens_to() -> None:
    left, landed = facts(departed(AT, 5, tail_number="N7"), arrived(AT, 5, tail_number="N7"))

    assert (left.key, landed.key) == ("N7", "N7")
    assert (left.subject, landed.subject) == ("EWR", "ORD")


def test_a_flight_without_an_aircraft_is_keyed_by_itself() -> None:
    assert [fact.key for fact in facts(departed(AT, 5, "f1", tail_number=None))] == ["f1"]


def test_a_planned_flight_holds_what_a_question_about_it_needs() -> None:
    [flight] = a_year([a_flight("f1")]).flights.itertuples(index=False)
    plan = messages.scheduled(flight, AT)

    assert TYPES.checked(plan, SCHEDULE, AT) is plan
    assert (plan.subject, plan.key, plan.at) == ("f1", "N1", AT)
    assert plan.data["scheduled_departure"] == "2013-07-01T16:30:00Z"


def test_the_facts_of_a_real_day_are_what_their_types_say(year: Any) -> None:
    from mlops_lab.flights.timeline import Timeline

    day = Timeline(year, seed=7).warm_up(datetime(2013, 7, 2, tzinfo=UTC))

    assert len(day) > 2000
    for fact in day:
        TYPES.checked(fact, OBSERVATIONS)


def test_a_departure_under_its_airport_is_refused() -> None:
    """Keyed as an earlier release keyed it, an aircraft's departure and arrival could overtake each other."""
    [fact] = facts(departed(AT, 5))

    with pytest.raises(EventRefused, match="key is 'EWR' and has to be 'N2', the tail number, else the flight id"):
        TYPES.checked(replace(fact, partition_key=""), OBSERVATIONS)


# --- a new version may add, never break -------------------------------------------------------------------------------------------


def test_every_schema_is_published_as_the_code_has_it() -> None:
    """Write what is new with `lab events schemas --write platform/schemas`, and commit it."""
    for each in TYPES:
        path = SCHEMAS / each.name / f"{each.version}.json"
        assert path.is_file(), f"{path} is missing"
        assert path.read_text(encoding="utf-8") == written(each), f"{path} is another"
    assert {path.name for path in SCHEMAS.iterdir() if path.is_dir()} == {each.name for each in TYPES}


@pytest.mark.parametrize("each", list(TYPES), ids=lambda each: each.name)
def test_no_version_breaks_one_before(each: EventType) -> None:
    known = versions(SCHEMAS, each.name)

    assert list(known) == list(range(1, each.version + 1))
    require_compatible(each, known)
    for schema in known.values():
        for example in schema["examples"]:
            each.validator.validate_python(example)


@closed
class First(TypedDict):
    name: str
    count: Annotated[int, Field(ge=0, description="How many.")]
    note: NotRequired[str]


def a_type(data: type[Any], version: int = 2, **changes: Any) -> EventType:
    usual: dict[str, Any] = {"subject": subject("where"), "key": field("name"), "topic": "control"}
    return EventType(name="Counted", meaning="x", data=data, example={"name": "n", "count": 1}, version=version, **(usual | changes))


FIRST = a_type(First, 1)


def test_an_optional_field_may_be_added_and_words_may_change() -> None:
    @closed
    class More(TypedDict):
        name: str
        count: Annotated[int, Field(ge=0, description="So many.")]
        note: NotRequired[str]
        colour: NotRequired[str]

    assert breaks(FIRST.json_schema(), a_type(More).json_schema()) == []
    require_compatible(a_type(More), {1: FIRST.json_schema()})


def _gone() -> type[Any]:
    @closed
    class Data(TypedDict):
        name: str
        count: Annotated[int, Field(ge=0)]

    return Data


def _renamed() -> type[Any]:
    @closed
    class Data(TypedDict):
        name: str
        number: Annotated[int, Field(ge=0)]
        note: NotRequired[str]

    return Data


def _retyped() -> type[Any]:
    @closed
    class Data(TypedDict):
        name: str
        count: Annotated[float, Field(ge=0)]
        note: NotRequired[str]

    return Data


def _narrowed() -> type[Any]:
    @closed
    class Data(TypedDict):
        name: str
        count: Annotated[int, Field(ge=1)]
        note: NotRequired[str]

    return Data


def _required_new() -> type[Any]:
    @closed
    class Data(TypedDict):
        name: str
        count: Annotated[int, Field(ge=0)]
        note: NotRequired[str]
        colour: str

    return Data


def _required_now() -> type[Any]:
    @closed
    class Data(TypedDict):
        name: str
        count: Annotated[int, Field(ge=0)]
        note: str

    return Data


def _optional_now() -> type[Any]:
    @closed
    class Data(TypedDict):
        name: NotRequired[str]
        count: Annotated[int, Field(ge=0)]
        note: NotRequired[str]

    return Data


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (_gone, "data.note is gone"),
        (_renamed, "data.count is gone"),
        (_retyped, 'data.count is {"minimum": 0, "type": "number"} and was'),
        (_narrowed, 'data.count is {"minimum": 1, "type": "integer"} and was'),
        (_required_new, "data.colour is required and is new"),
        (_required_now, "data.note is required and was not"),
        (_optional_now, "data.name is not required any more"),
    ],
)
def test_a_change_that_breaks_is_named(data: Any, says: str) -> None:
    with pytest.raises(SchemaBroken) as caught:
        require_compatible(a_type(data()), {1: FIRST.json_schema()})

    assert says in caught.value.what
    assert "a type of its own" in caught.value.next_step


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"topic": "answers"}, "its topic is 'answers' and was 'control'"),
        ({"key": subject("where")}, "its key is 'where' and was 'data.name'"),
        ({"subject": subject("who")}, "its subject is 'who' and was 'where'"),
    ],
)
def test_another_topic_or_key_breaks_too(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(SchemaBroken, match=says):
        require_compatible(a_type(First, **changes), {1: FIRST.json_schema()})


def test_what_is_inside_of_a_field_counts_as_well() -> None:
    @closed
    class Inner(TypedDict):
        a: int

    @closed
    class Wider(TypedDict):
        a: int
        b: NotRequired[int]

    @closed
    class Other(TypedDict):
        a: str

    def outer(inner: type[Any]) -> dict[str, Any]:
        make: Any = TypedDict
        return a_type(closed(make("Outer", {"name": str, "inner": inner}))).json_schema()

    assert breaks(outer(Inner), outer(Wider)) == []
    assert breaks(outer(Inner), outer(Other)) == ['data.inner.a is {"type": "string"} and was {"type": "integer"}']


def test_a_published_version_does_not_change(tmp_path: Path) -> None:
    assert publish([FIRST], tmp_path) == [tmp_path / "Counted" / "1.json"]
    assert publish([FIRST], tmp_path) == []
    with pytest.raises(SchemaBroken, match=r"Version 1 of Counted is published and says something else: data\.note is gone"):
        publish([a_type(_gone(), 1)], tmp_path)
    with pytest.raises(SchemaBroken, match="if it only adds optional fields, make it version 2"):
        publish([a_type(_required_new(), 1)], tmp_path)
    assert json.loads((tmp_path / "Counted" / "1.json").read_text()) == FIRST.json_schema()


def test_a_published_version_may_be_said_in_better_words(tmp_path: Path) -> None:
    publish([FIRST], tmp_path)

    assert publish([replace(FIRST, meaning="Something was counted.")], tmp_path) == [tmp_path / "Counted" / "1.json"]
