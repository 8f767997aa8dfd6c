"""The half of the use case that answers: what the serving process needs, and nothing that needs pandas."""

from typing import Any

from mlops_lab.events.schema import EventType
from mlops_lab.features import Feature, OnlineFeatures
from mlops_lab.features.on_demand import AskedField
from mlops_lab.features.policy import FeaturePolicy
from mlops_lab.features.rows import RowReader, RowState, RowView
from mlops_lab.flights.events import EVENT_TYPES
from mlops_lab.flights.from_rows import FlightsFromRows
from mlops_lab.flights.online import FlightState
from mlops_lab.flights.policy import POLICY
from mlops_lab.flights.request import MODEL, Flight, Outcome, ask
from mlops_lab.flights.rows import ASKED, VIEWS, FlightRows
from mlops_lab.flights.transform import FEATURES


class FlightsOnline:
    """Implements `OnlineUseCase`."""

    model: str = MODEL
    features: tuple[Feature, ...] = FEATURES
    policy: FeaturePolicy = POLICY
    item: type[Any] = Flight
    outcome: type[Any] = Outcome
    event_types: tuple[EventType, ...] = EVENT_TYPES
    ask = staticmethod(ask)

    def online(self) -> OnlineFeatures:
        return FlightState()

    @property
    def row_views(self) -> tuple[RowView, ...]:
        return VIEWS

    @property
    def asked_fields(self) -> tuple[AskedField, ...]:
        return ASKED

    def row_state(self) -> RowState:
        return FlightRows()

    def from_rows(self, reader: RowReader) -> OnlineFeatures:
        return FlightsFromRows(reader)
