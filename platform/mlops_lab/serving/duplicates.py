"""Finds a key that an object has twice. Parsers keep the last one and say nothing; what a signer or a log read before may be the first.

The quick proof: in JSON, the closing quote of each key is followed by a colon with nothing but blanks between. So without its blanks a body
has at least as many `":` as keys were written (texts may have more). If the parsed body has as many keys, none was written twice.
"""

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

_BLANKS = b" \t\n\r"

Count = Callable[[Any], int]


def written_keys(body: bytes) -> int:
    """How many keys a JSON text has, at most: texts that look like keys count too."""
    if b" " in body or b"\n" in body or b"\t" in body or b"\r" in body:
        body = body.translate(None, _BLANKS)
    return body.count(b'":')


def counter(schema: Mapping[str, Any]) -> Count:
    """How to count the keys of a parsed body, at all levels, by its pydantic core schema.

    Raises:
        ValueError: The type has something in it whose keys cannot be counted, such as a default or a free object.
    """
    return _counter(schema, {}) or (lambda value: 0)


def repeated_key(body: bytes) -> str | None:
    """The path of the first key that an object of this JSON text has twice: exact, and ten times slower."""
    return _repeated(json.loads(body, object_pairs_hook=_Pairs), "")


class _Pairs(list[tuple[str, Any]]):
    """An object as it was written."""


def _repeated(value: Any, path: str) -> str | None:
    if isinstance(value, _Pairs):
        seen: set[str] = set()
        for name, inner in value:
            here = f"{path}.{name}" if path else name
            if name in seen:
                return here
            seen.add(name)
            if isinstance(inner, list) and (found := _repeated(inner, here)) is not None:
                return found
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            if isinstance(inner, list) and (found := _repeated(inner, f"{path}[{i}]")) is not None:
                return found
    return None


def _counter(schema: Mapping[str, Any], known: Mapping[str, Any]) -> Count | None:
    """None where there are no keys."""
    kind = schema["type"]
    if kind in ("str", "int", "float", "bool", "literal"):
        return None
    if kind == "definitions":
        return _counter(schema["schema"], {definition["ref"]: definition for definition in schema["definitions"]})
    if kind == "definition-ref":
        rest = {ref: definition for ref, definition in known.items() if ref != schema["schema_ref"]}
        if len(rest) == len(known):
            raise ValueError("a body cannot contain itself")
        return _counter(known[schema["schema_ref"]], rest)
    if kind == "function-after":
        return _counter(schema["schema"], known)
    if kind == "nullable":
        inner = _counter(schema["schema"], known)
        return None if inner is None else partial(_where_there, inner)
    if kind == "list":
        inner = _counter(schema["items_schema"], known)
        return None if inner is None else partial(_of_each, inner)
    if kind == "typed-dict" and schema.get("config", {}).get("extra_fields_behavior") == "forbid":
        return _fields(schema, known)
    raise ValueError(f"a field of kind '{kind}' cannot be a part of a body: objects are closed, and nothing has a default")


def _where_there(count: Count, value: Any) -> int:
    return 0 if value is None else count(value)


def _of_each(count: Count, values: Any) -> int:
    return sum(map(count, values))


def _fields(schema: Mapping[str, Any], known: Mapping[str, Any]) -> Count:
    nested = [(name, count) for name, field in schema["fields"].items() if (count := _counter(field["schema"], known)) is not None]
    if not nested:
        return len
    return lambda value: len(value) + sum(count(value[name]) for name, count in nested if name in value)
