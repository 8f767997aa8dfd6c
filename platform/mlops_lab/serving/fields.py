"""What bodies are made of: the few kinds of fields that a use case's item and outcome may have.

A use case describes its item as a `TypedDict` under `@closed`. That one description is read by pydantic's parser, and is what the
documentation publishes as JSON Schema, so the two cannot drift apart.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from pydantic import ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, StringConstraints, with_config
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

_MOMENT = (
    r"^20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    r"T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$"
)

C = TypeVar("C", bound=type)


def closed(example: Mapping[str, Any]) -> Callable[[C], C]:
    """Decorate a TypedDict (of `typing_extensions`): unknown fields, other types and numbers without an end are refused.

    A field that may be left out is `NotRequired` without a default: a default would look as if it had been sent.

    Args:
        example: A valid one, for the documentation.
    """
    return with_config(ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, json_schema_extra={"examples": [dict(example)]}))


def text(pattern: str, description: str, *examples: str) -> Any:
    """The constraint of a text field, for `Annotated[str, text(...)]`.

    Args:
        pattern: A regular expression from `^` to `$` that is the same in ECMAScript and Rust: classes as `[0-9]`, not `\\d`.
        description: What it means.
        examples: Valid ones; the first is shown to whoever sends a wrong one.
    """
    return Field(pattern=pattern, description=description, examples=list(examples))


@dataclass(frozen=True)
class Whole:
    """The constraint of a whole number, for `Annotated[int, Whole(...)]`. JSON knows one kind of number, so `12.0` is 12.

    Attributes:
        least: From here,
        most: to here, both included, at most 2**53.
        description: What it means.
        default: What a missing one means, for the documentation.
    """

    least: int
    most: int
    description: str
    default: int | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        number = core_schema.float_schema(ge=self.least, le=self.most, strict=True, allow_inf_nan=False)
        return core_schema.no_info_after_validator_function(_whole, number)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        said = {"type": "integer", "minimum": self.least, "maximum": self.most, "description": self.description}
        return said if self.default is None else said | {"default": self.default}


def _whole(number: float) -> int:
    if number % 1:
        raise ValueError("must be a whole number")
    return int(number)


class _Written:
    """A date-time of RFC 3339 in JSON, a `datetime` in UTC in Python.

    Pydantic's own would also take the text "1372685400" for a moment, and a date without an offset for one in an unknown zone.
    """

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(_in_utc, core_schema.str_schema(pattern=_MOMENT, strict=True))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(schema) | {"format": "date-time", "examples": ["2013-07-01T13:30:00Z"]}


def _in_utc(written: str) -> datetime:
    at = datetime.fromisoformat(written)  # the pattern cannot count the days of a month: a ValueError names the field
    return at if at.tzinfo is UTC else at.astimezone(UTC)


Moment = Annotated[datetime, _Written()]
"""ISO 8601 as RFC 3339 writes it: with seconds and an offset, in the years 2000 to 2099."""

Name = Annotated[str, StringConstraints(pattern="^[ -~]{1,128}$")]
"""An identifier of somebody else's: 1 to 128 printable ASCII characters."""
