"""A body with a key that is there twice is refused, wherever the key stands, at the price of one look."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import serving_builders
from mlops_lab.serving.bodies import Bodies
from mlops_lab.serving.contract import Refusal
from mlops_lab.serving.duplicates import repeated_key, written_keys


class Pairs(list[tuple[str, Any]]):
    """An object whose keys may repeat."""


TRICKY = st.text(st.sampled_from('ab":\\ \n{},\u00fc'), max_size=5)


TREES = st.recursive(
    st.none() | st.integers() | TRICKY,
    lambda inner: st.lists(inner, max_size=4) | st.lists(st.tuples(TRICKY, inner), max_size=4).map(Pairs),
    max_leaves=15,
)


SPACES = st.sampled_from(["", " ", "\n", "\t", " \r\n "])


def written(draw: st.DrawFn, value: object) -> str:
    """JSON with blanks and escapes as its writer liked them."""
    space = draw(SPACES)
    if isinstance(value, Pairs):
        fields = (f"{_quoted(draw, name)}{draw(SPACES)}:{draw(SPACES)}{written(draw, inner)}" for name, inner in value)
        return "{" + space + f"{space},{space}".join(fields) + space + "}"
    if isinstance(value, list):
        return "[" + space + f",{space}".join(written(draw, inner) for inner in value) + "]" + space
    return _quoted(draw, value) if isinstance(value, str) else json.dumps(value)


def _quoted(draw: st.DrawFn, text: str) -> str:
    if draw(st.booleans()):
        return '"' + "".join(f"\\u{ord(letter):04x}" for letter in text) + '"'
    return json.dumps(text, ensure_ascii=draw(st.booleans()))


def has_a_key_twice(value: object) -> bool:
    if isinstance(value, Pairs):
        names = [name for name, _ in value]
        return len(set(names)) < len(names) or any(has_a_key_twice(inner) for _, inner in value)
    return isinstance(value, list) and any(has_a_key_twice(inner) for inner in value)


def keys_of(value: object) -> int:
    if isinstance(value, dict):
        return len(value) + sum(map(keys_of, value.values()))
    return sum(map(keys_of, value)) if isinstance(value, list) else 0


@settings(max_examples=300, deadline=None)
@given(st.data(), TREES)
def test_the_quick_count_overlooks_no_key_that_is_there_twice(data: st.DataObject, tree: Any) -> None:
    body = data.draw(st.composite(lambda draw: written(draw, tree))()).encode()

    unsuspicious = written_keys(body) == keys_of(json.loads(body))

    assert not (unsuspicious and has_a_key_twice(tree))
    assert (repeated_key(body) is not None) == has_a_key_twice(tree)


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ('{"place": "gate", "at": "2013-04-01T12:00:00Z", "place": "gate"}', "place"),
        ('{"place": "gate", "at": "2013-04-01T12:00:00Z", "p\\u006cace" : "exit"}', "place"),
        ('{"items": [{"place": "gate", "at": "2013-04-01T12:00:00Z"}], "items": []}', "items"),
        (
            '{"items": [{"place": "a", "at": "2013-04-01T12:00:00Z"}, {"at":0, "place": "b", "at": "2013-04-01T12:00:00Z"}]}',
            "items[1].at",
        ),
        ('{"items": [{"place": "a", "at": "2013-04-01T12:00:00Z"}], "purpose": "live", "purpose": "probe"}', "purpose"),
    ],
)
def test_a_key_that_is_there_twice_is_named_with_its_path(body: str, path: str) -> None:
    with pytest.raises(Refusal) as refused:
        serving_builders.BODIES.predict(body.encode())
    assert refused.value.fields[0][0] == path


def test_a_text_that_looks_like_keys_is_only_looked_at_twice() -> None:
    text = '{"a":1,"a":"'
    request = serving_builders.BODIES.predict(json.dumps({"place": text, "at": "2013-04-01T12:00:00Z"}).encode())
    assert request.asks[0].fields["place"] == text


def test_a_type_whose_keys_cannot_be_counted_is_no_body(tmp_path: Path) -> None:
    from typing import Annotated

    from pydantic import Field
    from typing_extensions import TypedDict

    from mlops_lab.serving.fields import closed

    @closed({"place": "gate"})
    class Filled(TypedDict):
        place: Annotated[str, Field(default="gate")]

    @closed({"more": {}})
    class Free(TypedDict):
        more: dict[str, str]

    class Open(TypedDict):
        place: str

    class Another(serving_builders.Queues):
        pass

    for item in (Filled, Free):
        Another.outcome = item
        with pytest.raises(ValueError, match="cannot be a part of a body"):
            Bodies(Another())
    Another.outcome = Open
    with pytest.raises(ValueError, match="is not under"):
        Bodies(Another())
