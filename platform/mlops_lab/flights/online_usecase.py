"""The half of the use case that answers: what the serving process needs, and nothing that needs pandas."""

from collections.abc import Mapping
from typing import Any

from mlops_lab.features import Ask, Feature, OnlineFeatures
from mlops_lab.flights.online import FlightState
from mlops_lab.flights.request import MODEL, ask, outcome
from mlops_lab.flights.transform import FEATURES


class FlightsOnline:
    """Implements `OnlineUseCase`."""

    model: str = MODEL
    features: tuple[Feature, ...] = FEATURES

    def online(self) -> OnlineFeatures:
        return FlightState()

    def ask(self, item: Mapping[str, Any]) -> Ask:
        return ask(item)

    def outcome(self, outcome_: Mapping[str, Any]) -> Mapping[str, Any]:
        return outcome(outcome_)
