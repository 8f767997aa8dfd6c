"""From the bytes of a body to validated values, and from a wrong body to the fields that are wrong in it.

The types that read a body are the types that the documentation publishes. Reading is pydantic's, in one pass over the bytes; what it cannot
see (a key written twice) is looked for here. Only a refused body is looked at again in Python, within bounds: it may be made to be slow.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Annotated, Any, Literal, NotRequired, Protocol, get_args

import orjson
from pydantic import FailFast, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from mlops_lab.clock import iso
from mlops_lab.features import Ask
from mlops_lab.serving.contract import BODY_LIMITS, BodyLimits, FieldWrong, Outcome, PredictRequest, Refusal, unusable
from mlops_lab.serving.duplicates import counter, repeated_key, written_keys
from mlops_lab.serving.fields import Moment, Name, Whole, closed

Purpose = Literal["live", "probe"]
PURPOSES: tuple[str, ...] = get_args(Purpose)

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

_Purpose = Annotated[
    Purpose, Field(description="`probe` only tests the service and is kept out of monitoring.", json_schema_extra={"default": "live"})
]


class Described(Protocol):
    """What a use case says about its bodies."""

    @property
    def item(self) -> type[Any]:
        """One item of a request: a TypedDict under `fields.closed`."""
        ...

    @property
    def outcome(self) -> type[Any]:
        """What a feedback item says happened: a TypedDict under `fields.closed`."""
        ...

    def ask(self, item: Any) -> Ask:
        """Turn a valid item into a question. Raises FieldWrong for what the type cannot say, such as two fields at odds."""
        ...


class _Form:
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
            path = f"{path}[{step}]" if isinstance(step, int) else _path(path, step)
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


class Bodies:
    """Reads the bodies of one use case."""

    def __init__(self, use_case: Described, limits: BodyLimits = BODY_LIMITS) -> None:
        """Raises ValueError when the use case's types cannot be parts of a body; see `duplicates.counter`."""
        self.limits = limits
        item, what_happened = use_case.item, use_case.outcome
        if taken := {"items", "purpose"} & item.__annotations__.keys():
            raise ValueError(f"an item cannot have a field '{min(taken)}': the body around it has one")
        (an_item,), (an_outcome,) = (_examples(each) for each in (item, what_happened))
        feedback = {"event_id": "e-1", "prediction_id": "6f1c2b7d9a80000", "outcome": an_outcome, "at": "2013-07-01T17:02:00Z"}

        @closed(an_item)
        class OneItem(item):  # type: ignore[misc, valid-type]  # the type is the use case's
            purpose: NotRequired[_Purpose]  # type: ignore[valid-type]  # for mypy this is no TypedDict, see above

        @closed({"items": [an_item], "purpose": "live"})
        class ManyItems(TypedDict):
            items: Annotated[list[item], Field(min_length=1, max_length=limits.max_items), FailFast()]  # type: ignore[valid-type]
            purpose: NotRequired[_Purpose]

        @closed(feedback)
        class FeedbackItem(TypedDict):
            event_id: Annotated[Name, Field(description="Unique per event; sending it again changes nothing.", examples=["e-1"])]
            prediction_id: Annotated[Name, Field(description="As it was answered.", examples=["6f1c2b7d9a80000"])]
            revision: NotRequired[Annotated[int, Whole(0, 2**31 - 1, "Grows with each correction; the highest counts.", default=0)]]
            outcome: what_happened  # type: ignore[valid-type]
            at: Annotated[Moment, Field(description="Event time.")]

        @closed({"items": [feedback]})
        class Feedback(TypedDict):
            items: Annotated[list[FeedbackItem], Field(min_length=1, max_length=limits.max_items), FailFast()]

        self._ask = use_case.ask
        self._one = _Form(OneItem, None, limits)
        self._many = _Form(ManyItems, item, limits)
        self._feedback = _Form(Feedback, FeedbackItem, limits)

    def predict(self, body: bytes) -> PredictRequest:
        """Read the body of `/v1/predict`: `{"items": [...], "purpose": "live"}`, or one item, with or without its `purpose`.

        Raises:
            Refusal: 400 when it is not JSON, 422 with up to ten wrong fields when its content cannot be used.
        """
        form = self._many if b'"items"' in body else self._one
        try:
            value = form.read(body)
        except ValidationError as error:
            document = json_of(body, error)
            right = self._many if isinstance(document, dict) and "items" in document else self._one
            if right is form:  # otherwise the word was a value, or written with an escape
                raise form.refusal(document, error) from None
            form, value = right, self._read(right, body)
        purpose = value.pop("purpose", "live")
        single = form is self._one
        asks: list[Ask] = []
        try:
            if single:
                asks.append(self._ask(value))
            else:
                asks.extend(map(self._ask, value["items"]))
        except FieldWrong as error:
            raise unusable((_path("" if single else f"items[{len(asks)}]", error.field), error.why)) from error
        return PredictRequest(asks, purpose, single)

    def feedback(self, body: bytes) -> list[Outcome]:
        """Read the body of `/v1/feedback`: `{"items": [...]}`. Raises Refusal as `predict` does."""
        return [
            Outcome(item["event_id"], item["prediction_id"], item.get("revision", 0), item["outcome"], iso(item["at"]))
            for item in self._read(self._feedback, body)["items"]
        ]

    def schemas(self, ref_template: str) -> dict[str, Any]:
        """JSON Schema of what is read here: by name, and `OneItem ManyItems Feedback` among the names."""
        forms = (self._one, self._many, self._feedback)
        _, document = TypeAdapter.json_schemas([(i, "validation", form.adapter) for i, form in enumerate(forms)], ref_template=ref_template)
        schemas: dict[str, Any] = document["$defs"]
        return schemas

    def _read(self, form: _Form, body: bytes) -> Any:
        try:
            return form.read(body)
        except ValidationError as error:
            raise form.refusal(json_of(body, error), error) from None


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


def _examples(described: type[Any]) -> list[Any]:
    schema = TypeAdapter(described).json_schema()
    if "examples" not in schema:
        raise ValueError(f"{described.__name__} is not under `fields.closed`, which gives it an example and refuses unknown fields")
    examples: list[Any] = schema["examples"]
    return examples


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
            _check_size(inner, _path(path, name), limits, levels - 1)
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


def _path(outer: str, name: str) -> str:
    return f"{outer}.{name[:_ECHOED]}" if outer and name else outer or name[:_ECHOED]


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True
