"""A new version of a type may add, never break; a published one does not change."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, NotRequired

import pytest
from pydantic import Field
from typing_extensions import TypedDict

from mlops_lab.bootstrap.events import event_types
from mlops_lab.errors import SchemaBroken
from mlops_lab.events.published import breaks, publish, require_compatible, versions, written
from mlops_lab.events.schema import EventType, closed, field, subject
from mlops_lab.flights.online_usecase import FlightsOnline

TYPES = event_types(FlightsOnline())
SCHEMAS = Path(__file__).parents[3] / "platform" / "schemas"


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
