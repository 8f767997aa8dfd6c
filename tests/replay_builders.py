"""A replay driver among fakes: a service that answers, a journal, a bus, and a few flights to play."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from flight_builders import SCHEDULED, a_flight, a_year, observed
from mlops_lab.events import OBSERVATIONS
from mlops_lab.events.on_sqlite import SqliteBus
from mlops_lab.flights.source import Year
from mlops_lab.flights.timeline import Timeline, report_item
from mlops_lab.replay.client import Answer
from mlops_lab.replay.driver import Driver, Progress
from mlops_lab.replay.journal import Journal

MINUTE, DAY, WEEK = timedelta(minutes=1), timedelta(days=1), timedelta(weeks=1)


@dataclass
class Service:
    """A service that answers every question with an id of its own and notes what it was sent, and what the bus held by then."""

    bus: SqliteBus
    status: int = 200
    sent: list[tuple[str, dict[str, Any], int]] = field(default_factory=list)
    model: int = 1
    body: bytes | None = None

    async def post(self, path: str, body: bytes) -> Answer:
        said = orjson.loads(body)
        self.sent.append((path, said, self.bus.head(OBSERVATIONS)))
        await asyncio.sleep(0)
        if self.status != 200:
            return Answer(self.status, b"no", 10)
        if path == "/v1/feedback":
            return Answer(202, b"{}", 10)
        ids = [{"prediction_id": f"of-{item['flight_id']}"} for item in said["items"]]
        return Answer(200, orjson.dumps({"items": ids}) if self.body is None else self.body, 10)

    async def get(self, path: str) -> Answer:
        assert path == "/v1/model"
        return Answer(200, orjson.dumps({"version": self.model}), 10)

    def asked(self) -> list[str]:
        """The flights of all live questions, in the order they were sent."""
        return [
            item["flight_id"] for path, said, _ in self.sent if path == "/v1/predict" and "purpose" not in said for item in said["items"]
        ]

    def told(self) -> list[dict[str, Any]]:
        return [item for path, said, _ in self.sent if path == "/v1/feedback" for item in said["items"]]


@dataclass
class Stage:
    """A driver among fakes: a real bus and journal, a service that answers, and answers about the platform that a test gives."""

    tmp_path: Path
    settled: Callable[[], bool] = lambda: True
    agreed: Callable[[bytes], bool] = lambda body: True
    progress: list[Progress] = field(default_factory=list)
    on_wait: Callable[[], None] = lambda: None
    minute_s: float = 0.0

    def __post_init__(self) -> None:
        self.bus, self.journal = SqliteBus(self.tmp_path / "bus.db"), Journal(self.tmp_path / "replay.db")
        self.service = Service(self.bus)

    def driver(self, answered: dict[str, tuple[str, datetime]] | None = None) -> Driver:
        usual: dict[str, Any] = {
            "bus": self.bus,
            "client": self.service,
            "journal": self.journal,
            "item_of": report_item,
            "settled": lambda: self.settled(),
            "agreed": lambda body: self.agreed(body),
            "on_progress": self.progress.append,
            "on_wait": lambda: self.on_wait(),
            "answered": answered or {},
        }
        return Driver(**usual | self.more())

    def more(self) -> dict[str, Any]:
        """What this driver has beside the usual."""
        return {"minute_s": self.minute_s}

    def play(self, year: Year, *ticks: datetime, after: datetime = SCHEDULED - DAY) -> Progress:
        return asyncio.run(self.driver().play(Timeline(year, seed=1), after, ticks))


def flights_of(*names: str, at: datetime = SCHEDULED) -> Year:
    """Flights at noon that leave on time and land two hours later, a minute apart, and the weather."""
    rows = []
    for i, name in enumerate(names):
        due = at + i * MINUTE
        landed = due + timedelta(hours=2)
        happened = {"departed_at": due, "departure_delay_min": 0.0, "arrived_at": landed, "arrival_delay_min": 20.0}
        rows.append(a_flight(name, scheduled_departure=due, **happened))
    return a_year(rows, [observed(at - timedelta(hours=2), 70.0)])


NOON = SCHEDULED - timedelta(hours=1)
"""When the first flight of `flights_of` is asked about."""
