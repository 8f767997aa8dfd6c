"""What a use case must bring. Everything that knows of flights is behind this; bringing your own data means keeping these promises."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from mlops_lab.events.schema import EventType
from mlops_lab.features import Ask, Feature, OnlineFeatures
from mlops_lab.features.on_demand import AskedField
from mlops_lab.features.policy import FeaturePolicy
from mlops_lab.features.rows import RowReader, RowState, RowView

if TYPE_CHECKING:  # the serving process reads this module and must stay free of pandas
    import pandas as pd
    from numpy import bool_
    from numpy.typing import NDArray

    from mlops_lab.data.schema import Column, TableSchema
    from mlops_lab.data.snapshot import Batch
    from mlops_lab.events import Message
    from mlops_lab.features.asked import PastQuestion
    from mlops_lab.gates.expectation import Expectation
    from mlops_lab.training.recipe import Recipe
    from mlops_lab.training.rows import TrainingRows


class OnlineUseCase(Protocol):
    """The half that answers: nothing heavier than pydantic, imported by the serving process."""

    @property
    def model(self) -> str:
        """Name of the registered model."""
        ...

    @property
    def features(self) -> tuple[Feature, ...]:
        """What the model reads, in order."""
        ...

    def online(self) -> OnlineFeatures:
        """A new, empty feature state in this process, kept up to date by facts from the bus."""
        ...

    @property
    def row_views(self) -> tuple[RowView, ...]:
        """The rows of the online table."""
        ...

    @property
    def asked_fields(self) -> tuple[AskedField, ...]:
        """The fields of a question that features are computed from, beside the join keys of rows."""
        ...

    def row_state(self) -> RowState:
        """A new, empty fold of facts into rows of the online table."""
        ...

    def from_rows(self, reader: RowReader) -> OnlineFeatures:
        """Features read from the rows of a store, equal to those of `online` at each moment that the rows still cover."""
        ...

    @property
    def policy(self) -> FeaturePolicy:
        """What is done about features that are stale or absent."""
        ...

    @property
    def item(self) -> type[Any]:
        """One item of a request: a TypedDict under `serving.fields.closed`. It is parser and documentation in one."""
        ...

    @property
    def outcome(self) -> type[Any]:
        """What a feedback item says happened: a TypedDict under `serving.fields.closed`."""
        ...

    @property
    def event_types(self) -> tuple[EventType, ...]:
        """What its facts have to be."""
        ...

    def ask(self, item: Any) -> Ask:
        """Turn a valid item into a question. Raises `serving.contract.FieldWrong` for what its type cannot say."""
        ...


class UseCase(OnlineUseCase, Protocol):
    """The whole: also what trains, judges and watches."""

    @property
    def recipe(self) -> "Recipe":
        """How to fit."""
        ...

    @property
    def tables(self) -> "tuple[TableSchema, ...]":
        """The tables of a batch."""
        ...

    @property
    def outcome_columns(self) -> "tuple[Column, ...]":
        """What an outcome says, as columns."""
        ...

    @property
    def slices(self) -> tuple[str, ...]:
        """Features whose values are looked at one by one by the judge."""
        ...

    @property
    def watched(self) -> tuple[str, ...]:
        """Features whose drift is measured."""
        ...

    def checked_tables(self, tables: "Mapping[str, pd.DataFrame]") -> "Mapping[str, pd.DataFrame]":
        """The tables of a batch with the columns that its expectations need derived."""
        ...

    def checked_window(self, served: "pd.DataFrame") -> "pd.DataFrame":
        """The features of a window with the columns that its expectations need derived."""
        ...

    def batch_expectations(self, batch: "Batch") -> "Sequence[Expectation]":
        """What a batch must be like."""
        ...

    def window_expectations(self) -> "Sequence[Expectation]":
        """What a window of served features must be like; their table is called `served`."""
        ...

    def history(self, tables: "Mapping[str, pd.DataFrame]", until: datetime) -> "TrainingRows":
        """Labelled rows from accepted tables: point-in-time features, labels that arrived until then."""
        ...

    def questions(self, answers: "pd.DataFrame", published: "Iterable[Message]") -> "Sequence[PastQuestion]":
        """The questions of recorded answers (entity, moment, features as scored), in their order, with what was published of them."""
        ...

    def planned(self, plan: "Message") -> Ask:
        """The question about what a message on the schedule topic announces, at the moment at which it is asked."""
        ...

    def accepted_plan(self, tables: "Mapping[str, pd.DataFrame]", entity: str) -> Ask | None:
        """The question about something in accepted tables; None where it is not in them."""
        ...

    def accepted_names(self, tables: "Mapping[str, pd.DataFrame]") -> Iterable[str]:
        """Everything in accepted tables that can be asked about."""
        ...

    def features_from(self, asks: Sequence[Ask], facts: "Iterable[Message]") -> "pd.DataFrame":
        """The features of questions as the training side computes them from published facts, each as of its own moment; a row per ask."""
        ...

    def facts(self, tables: "Mapping[str, pd.DataFrame]", after: datetime, until: datetime) -> "Iterator[Message]":
        """What accepted tables say of (after, until], as the facts that travel on the bus, in no order; slow-moving ones at `after`."""
        ...

    def labels(self, rows: "pd.DataFrame") -> "NDArray[bool_]":
        """The labels of rows that have the outcome's columns, shape (rows,)."""
        ...
