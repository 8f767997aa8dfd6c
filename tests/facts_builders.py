"""The facts of a bus, followed as a replica does."""

from datetime import timedelta
from pathlib import Path
from time import monotonic, sleep

from mlops_lab.events import OBSERVATIONS
from mlops_lab.events.in_time import BusInTime
from mlops_lab.events.on_sqlite import SqliteBus
from mlops_lab.serving.facts import FactStream
from serving_builders import NOON, Counted, a_count, an_item, ask

LOOK_S = 0.3
"""A look may take 50 ms; the rest is for a machine that has other things to do."""


class Followed:
    """A bus, and the features of a replica that follows it."""

    def __init__(self, path: Path, *, made: bool = True) -> None:
        self.path = path
        self.bus = SqliteBus(path)
        if made:
            self.bus.head(OBSERVATIONS)
        self.online = Counted()
        self.facts = FactStream(BusInTime(path), self.online)

    def look(self) -> float:
        """Seconds that one look took."""
        began = monotonic()
        self.facts.catch_up()
        return monotonic() - began

    def people(self) -> object:
        """The newest count at the gate."""
        return self.online.read(ask(an_item())).values[2]

    def publish(self, people: int) -> None:
        publisher = SqliteBus(self.path)
        publisher.publish(OBSERVATIONS, [a_count(people, NOON - timedelta(minutes=60 - people))])
        publisher.close()

    def recovers(self, within_s: float = 5.0) -> bool:
        deadline = monotonic() + within_s
        while monotonic() < deadline:
            self.look()
            if self.facts.trouble is None:
                return True
            sleep(0.05)
        return False
