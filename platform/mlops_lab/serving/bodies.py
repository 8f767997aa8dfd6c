"""The bodies of one use case: from bytes to what is asked or reported.

The types that read a body are the types that the documentation publishes.
"""

from typing import Annotated, Any, Literal, NotRequired, Protocol, get_args

from pydantic import FailFast, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from mlops_lab.clock import iso
from mlops_lab.features import Ask
from mlops_lab.serving.contract import BODY_LIMITS, BodyLimits, FieldWrong, Outcome, PredictRequest, unusable
from mlops_lab.serving.fields import Moment, Name, Whole, closed
from mlops_lab.serving.form import Form, json_of, path_to

Purpose = Literal["live", "probe"]
PURPOSES: tuple[str, ...] = get_args(Purpose)

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
        self._one = Form(OneItem, None, limits)
        self._many = Form(ManyItems, item, limits)
        self._feedback = Form(Feedback, FeedbackItem, limits)

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
            raise unusable((path_to("" if single else f"items[{len(asks)}]", error.field), error.why)) from error
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

    def _read(self, form: Form, body: bytes) -> Any:
        try:
            return form.read(body)
        except ValidationError as error:
            raise form.refusal(json_of(body, error), error) from None


def _examples(described: type[Any]) -> list[Any]:
    schema = TypeAdapter(described).json_schema()
    if "examples" not in schema:
        raise ValueError(f"{described.__name__} is not under `fields.closed`, which gives it an example and refuses unknown fields")
    examples: list[Any] = schema["examples"]
    return examples
