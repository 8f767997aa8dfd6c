"""Schemas as they were published: one file per type and version, which never changes its meaning. A new version may add, never break."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mlops_lab.errors import SchemaBroken
from mlops_lab.events.schema import EventType

Schema = Mapping[str, Any]

_WORDS = frozenset({"title", "description", "examples", "$id", "$schema", "$defs"})
"""What may change without a new version: it tells a person something, and a program nothing."""


def versions(folder: Path, name: str) -> dict[int, Schema]:
    """The published schemas of a type by version, in order; empty where there is none."""
    files = {int(path.stem): path for path in (folder / name).glob("*.json")}
    return {number: json.loads(files[number].read_text(encoding="utf-8")) for number in sorted(files)}


def publish(types: Iterable[EventType], folder: Path) -> list[Path]:
    """Write the present version of each type; returns the files that are new or say the same in other words.

    Raises:
        SchemaBroken: A version that is there means something else, or a new one breaks the one before. Nothing was written.
    """
    changed: dict[Path, str] = {}
    for each in types:
        path, text = folder / each.name / f"{each.version}.json", written(each)
        require_compatible(each, versions(folder, each.name))
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            changed[path] = text
    for path, text in changed.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return list(changed)


def written(each: EventType) -> str:
    """The schema of a type as it is written to its file."""
    return json.dumps(each.json_schema(), indent=2, ensure_ascii=False) + "\n"


def require_compatible(each: EventType, known: Mapping[int, Schema]) -> None:
    """Raises SchemaBroken unless a type says what its published version says and adds to the versions before."""
    now = each.json_schema()
    same = known.get(each.version)
    if same is not None and (different := [*breaks(same, now), *breaks(now, same)]):
        raise SchemaBroken.of(each.name, each.version, f"is published and says something else: {different[0]}", each.version + 1)
    for number, schema in known.items():
        if number < each.version and (broken := breaks(schema, now)):
            raise SchemaBroken.of(each.name, each.version, f"breaks version {number}: {broken[0]}", each.version)


def breaks(older: Schema, newer: Schema) -> list[str]:
    """What data of the older schema, or who reads it, would stumble over in the newer one; empty where it only adds optional fields."""
    told = [
        f"its {name[2:]} is '{newer.get(name)}' and was '{older.get(name)}'"
        for name in ("x-topic", "x-subject", "x-key")
        if older.get(name) != newer.get(name)
    ]
    return [*told, *_differences("data", _plain(older, older), _plain(newer, newer))]


def _differences(path: str, older: Any, newer: Any) -> Iterator[str]:
    if not (isinstance(older, dict) and isinstance(newer, dict) and "properties" in older and "properties" in newer):
        if older != newer:
            yield f"{path} is {json.dumps(newer)} and was {json.dumps(older)}"
        return
    before, after = older["properties"], newer["properties"]
    required_before, required_after = set(older.get("required", ())), set(newer.get("required", ()))
    for name in before.keys() - after.keys():
        yield f"{path}.{name} is gone"
    for name in sorted(required_after - required_before):
        yield f"{path}.{name} is required and {'was not' if name in before else 'is new'}"
    for name in sorted((required_before - required_after) & after.keys()):
        yield f"{path}.{name} is not required any more"
    for name in before.keys() & after.keys():
        yield from _differences(f"{path}.{name}", before[name], after[name])
    rest = [{name: said for name, said in each.items() if name not in ("properties", "required")} for each in (older, newer)]
    if rest[0] != rest[1]:
        yield f"{path} is {json.dumps(rest[1])} and was {json.dumps(rest[0])}"


def _plain(schema: Any, root: Schema) -> Any:
    """A schema without what is only for people, with what it refers to in its place."""
    if isinstance(schema, list):
        return [_plain(each, root) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    reference = schema.get("$ref")
    if isinstance(reference, str):
        return _plain(root["$defs"][reference.removeprefix("#/$defs/")], root)
    properties = schema.get("properties")
    plain = {name: _plain(said, root) for name, said in schema.items() if not _for_people(name) and name != "properties"}
    if isinstance(properties, Mapping):  # a field may be called as a word is
        plain["properties"] = {name: _plain(said, root) for name, said in properties.items()}
    return plain


def _for_people(name: str) -> bool:
    return name in _WORDS or name.startswith("x-")
