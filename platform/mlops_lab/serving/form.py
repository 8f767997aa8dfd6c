"""One shape of body: from its bytes to validated values, and from a wrong body to the fields that are wrong in it.

Reading is pydantic's, in one pass over the bytes; what it cannot see (a key written twice) is looked for here. Only a refused body is
looked at again in Python, within bounds: it may be made to be slow.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Annotated, Any

import orjson
from pydantic import Field, TypeAdapter, ValidationError

from mlops_lab.serving.contract import BodyLimits, Refusal, unusable
from mlops_lab.serving.duplicates import counter, repeated_key, written_keys
from mlops_lab.serving.fields import closed

_MAX_NAMED = 10
_MAX_FIELDS = 64
_ECHOED = 100
_KINDS = {type(None): "null", bool: "a boolean", int: "a number", float: "a number", str: "a text", list: "a list", dict: "an object"}
_MUST = {
    "missing": "is missing",
    "extra_forbidden": "is not known here",
    "dict_type": "must be an object",
    "list_type": "must be a list",
    "string_type": "must be a text",
    "bool_type": "must be true or false",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
}
_DATE_TIME = "must be a date-time with seconds and an offset, in the years 2000 to 2099, such as 2013-07-01T13:30:00Z"


class Form:
    """One shape of body.

    Args:
        body: Its type.
        part: The type of the members of its `items`; None when it is no list.
        limits: How many there may be.
    """

    def __init__(self, body: type[Any], part: type[Any] | None, limits: BodyLimits) -> None:
        self.adapter: TypeAdapter[Any] = TypeAdapter(body)
        self._validate = self.adapter.validator.validate_json
        self._keys = counter(self.adapter.core_schema)
        self._limits = limits
        self._part = None if part is None else TypeAdapter(part)
        self._outside = TypeAdapter(_outside_of(body, limits)) if part else self.adapter
        schema = self.adapter.json_schema()
        objects = [schema, *schema.get("$defs", {}).values()]
        self._most_keys = max(_MAX_FIELDS, sum(len(each.get("properties", ())) for each in objects) * (limits.max_items if part else 1))
        self._patterns = {name: _pattern(field) for each in objects for name, field in each.get("properties", {}).items()}

    def read(self, body: bytes) -> Any:
        """Raises ValidationError, or Refusal for what pydantic does not see."""
        written = written_keys(body)
        if written > self._most_keys:
            _check_size(json_of(body), "", self._limits)  # before pydantic makes an error of each
        value = self._validate(body)
        if written != self._keys(value) and (twice := repeated_key(body)) is not None:
            raise unusable((twice[:_ECHOED], "is there twice"))
        return value

    def refusal(self, document: Any, error: ValidationError) -> Refusal:
        """Why this document was refused, up to ten fields of it."""
        _check_size(document, "", self._limits)
        wrong: list[tuple[str, str]] = []
        for named in self._wrong(document):
            wrong.append(named)
            if len(wrong) == _MAX_NAMED:
                break
        return unusable(*(wrong or [self._named(details, "") for details in _details(error)[:_MAX_NAMED]]))

    def _wrong(self, document: Any) -> Iterator[tuple[str, str]]:
        outside = list(self._errors(self._outside, document, ""))
        yield from outside
        if self._part is None or outside:
            return
        for i, part in enumerate(document["items"]):
            yield from self._errors(self._part, part, f"items[{i}]")

    def _errors(self, adapter: TypeAdapter[Any], value: Any, path: str) -> Iterator[tuple[str, str]]:
        try:
            adapter.validate_python(value)
        except ValidationError as error:
            for details in _details(error):
                yield self._named(details, path)

    def _named(self, details: Mapping[str, Any], path: str) -> tuple[str, str]:
        """A field and a reason, from one of pydantic's errors."""
        name = ""
        for step in details["loc"]:
            name = name if isinstance(step, int) else step
            path = f"{path}[{step}]" if isinstance(step, int) else path_to(path, step)
        kind, said = details["type"], details["msg"]
        if kind == "string_pattern_mismatch":
            why = self._patterns[name]
        elif kind in _MUST:
            why = _MUST[kind]
            found = _KINDS.get(type(details["input"]), "this")
            if kind.endswith("_type") and not (found == "a number" and "number" in why):
                why += f", not {found}"
        elif " should " in said:
            why = f"must {said.partition(' should ')[2]}"
        else:
            said = said.removeprefix("Value error, ")
            why = said if said.startswith("must ") else f"cannot be used: {said}"
        return path or "body", why


def json_of(body: bytes, error: ValidationError | None = None) -> Any:
    """The document of a body. Raises Refusal 400 that says why it is none.

    Args:
        body: As received.
        error: What pydantic had to say, if it has seen the body.
    """
    why = ""
    if error is not None and error.error_count() == 1 and (details := _details(error)[0])["type"] == "json_invalid":
        why = details["msg"].removeprefix("Invalid JSON: ")
    else:
        with suppress(ValueError):
            return orjson.loads(body)  # much faster, and what it does not read pydantic may have read: NaN, 1e999
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as other:
            why = "recursion limit" if isinstance(other, RecursionError) else str(other)
    if why.startswith("recursion limit"):
        why = "it is nested too deeply"
    elif not body.strip():
        why = "it is empty"
    elif body.startswith(b"\xef\xbb\xbf"):
        why = "it begins with a byte order mark"
    elif b"\0" in body[:2] or not _is_utf8(body):
        why = "it is not in UTF-8"
    why = why[:_ECHOED]
    raise Refusal(400, "Not JSON", f"The body cannot be read as JSON: {why}. Send JSON in UTF-8.", fields=(("body", why),))


def _outside_of(body: type[Any], limits: BodyLimits) -> type[Any]:
    """The body's type without a look into its items."""

    @closed({})
    class Outside(body):  # type: ignore[misc]
        items: Annotated[list[Any], Field(min_length=1, max_length=limits.max_items)]

    return Outside


def _check_size(value: Any, path: str, limits: BodyLimits, levels: int = 4) -> None:
    """Raises Refusal when an object or a list has more in it than any that is known here."""
    if not levels:
        return
    if isinstance(value, dict):
        if len(value) > _MAX_FIELDS:
            raise unusable((path or "body", f"has {len(value)} fields, more than any object here"))
        for name, inner in value.items():
            _check_size(inner, path_to(path, name), limits, levels - 1)
    elif isinstance(value, list):
        if len(value) > limits.max_items:
            raise unusable((path or "body", f"must have at most {limits.max_items} items, not {len(value)}"))
        for i, inner in enumerate(value):
            if isinstance(inner, dict):
                _check_size(inner, f"{path}[{i}]", limits, levels - 1)


def _details(error: ValidationError) -> list[Any]:
    return error.errors(include_url=False, include_context=False)


def _pattern(field: Mapping[str, Any]) -> str:
    """What a text has to look like, from the schema of its field."""
    for each in (field, *field.get("anyOf", ())):
        if each.get("format") == "date-time":
            return _DATE_TIME
        if "pattern" in each:
            examples = each.get("examples") or field.get("examples")
            return f"must match {each['pattern']}" + (f", such as {examples[0]}" if examples else "")
    return "has another form than it must have"


def path_to(outer: str, name: str) -> str:
    """How a field within another is called; a name that is very long is cut."""
    return f"{outer}.{name[:_ECHOED]}" if outer and name else outer or name[:_ECHOED]


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True
