"""Outcomes of parcels as they are reported on the bus, and what became of them in their table."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from mlops_lab.bootstrap import Lab
from mlops_lab.clock import iso
from mlops_lab.data.label import OUTCOMES, Labelled, join
from mlops_lab.data.prediction import PREDICTIONS
from mlops_lab.events import FEEDBACK, EventBus, Message
from mlops_lab.pipelines.feedback import reported
from mlops_lab.settings import EventSettings, FeatureSettings, Settings
from parcel_builders import MODEL
from pipeline_builders import SmallLab

REPORTED_AT = datetime(2013, 2, 12, 12, tzinfo=UTC)


def a_report(number: int, **different: Any) -> Message:
    """The outcome of prediction p<number>, by event v<number>."""
    item = {
        "event_id": f"v{number}",
        "prediction_id": f"p{number}",
        "revision": 0,
        "at": iso(REPORTED_AT + timedelta(minutes=number)),
        "outcome": {"hours_late": 1.0},
    }
    return reported(MODEL, item | different)


def nonsense(number: int) -> Message:
    """One that says nothing that happened."""
    right = a_report(number)
    return replace(right, data=right.data | {"outcome": {"hours_late": "soon"}})


def report(lab: SmallLab, *messages: Message) -> None:
    """By somebody whose bus does not check what is published."""
    super(type(lab.bus), lab.bus).publish(FEEDBACK, messages)


def events(lab: SmallLab) -> list[str]:
    """Every row of the table, with repetitions."""
    lab.shipper  # noqa: B018  declares the table
    return sorted(lab.tables.read(OUTCOMES)["event_id"])


def labelled(lab: SmallLab) -> Labelled:
    lab.shipper  # noqa: B018
    return join(lab.tables.read(PREDICTIONS), lab.tables.read(OUTCOMES), REPORTED_AT + timedelta(days=60))


class KafkaLab(SmallLab):
    """The lab of parcels on a broker."""

    @cached_property
    def bus(self) -> EventBus:  # type: ignore[override]
        return Lab.bus.func(self)  # type: ignore[no-any-return, attr-defined]  # the real one, which the builder's twin hides

    def again(self) -> "KafkaLab":
        found = KafkaLab(self.home, self.catalog.candidates)
        found.settings = self.settings
        return found


def on_kafka(home: Path, servers: str, prefix: str) -> KafkaLab:
    """A home whose events travel on a broker, under a prefix of its own."""
    lab = KafkaLab(home)
    events = EventSettings(bus="kafka", kafka=servers, prefix=prefix)
    lab.settings = Settings(home=home, events=events, features=FeatureSettings(store="sqlite"))
    return lab
