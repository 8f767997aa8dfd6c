"""One replay in a home: the timeline with the faults that are on, the driver, and the journal, put together."""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import orjson
import uvloop

from mlops_lab.bootstrap import Lab
from mlops_lab.bootstrap.identities import FEEDBACK
from mlops_lab.bootstrap.services import WATCHER
from mlops_lab.clock import from_iso, iso
from mlops_lab.errors import NoChampion
from mlops_lab.embedded import require_running
from mlops_lab.events import OBSERVATIONS
from mlops_lab.flights import messages, source
from mlops_lab.flights.faults import fault_called
from mlops_lab.flights.timeline import Timeline, report_item
from mlops_lab.governance.approval import read_token
from mlops_lab.monitoring.window import Window
from mlops_lab.pipelines.worker import settled
from mlops_lab.replay.client import Client
from mlops_lab.replay.driver import Driver, Progress, publish_references
from mlops_lab.replay.journal import Journal

JOURNAL = "replay.db"
FIRST_WEEK = Window.of_week("2013-W14")
"""Production starts on Monday, 1 April 2013; what came before is history."""


@dataclass(frozen=True, slots=True)
class ActiveFault:
    """A fault that is on, from a moment of event time."""

    name: str
    since: datetime


class Faults:
    """Which faults are on in a home: a small JSON file, replaced as a whole."""

    def __init__(self, home: Path) -> None:
        self._path = home / "faults.json"

    def active(self) -> list[ActiveFault]:
        """The faults that are on, in the order in which they were started."""
        if not self._path.is_file():
            return []
        return [ActiveFault(one["name"], from_iso(one["since"])) for one in json.loads(self._path.read_text(encoding="utf-8"))]

    def start(self, name: str, since: datetime) -> None:
        """Switch a fault on; one that is on stays as it is. Raises UnknownName."""
        fault_called(name)
        active = self.active()
        if name not in {one.name for one in active}:
            self._write([*active, ActiveFault(name, since)])

    def clear(self, name: str | None = None) -> list[str]:
        """Switch one fault off, or all; returns the names of those that were on."""
        active = self.active()
        gone = [one.name for one in active if name in (None, one.name)]
        self._write([one for one in active if one.name not in gone])
        return gone

    def _write(self, faults: Sequence[ActiveFault]) -> None:
        aside = self._path.with_suffix(".partial")
        aside.write_text(json.dumps([{"name": one.name, "since": iso(one.since)} for one in faults]), encoding="utf-8")
        aside.replace(self._path)


class Session:
    """Plays weeks in a home, each time from where the last replay stopped.

    Behind 2013 the same year is played again 52 weeks later, so that a platform can be lived with for as long as one likes.
    """

    def __init__(self, lab: Lab, on_progress: Callable[[Progress], None], minute_s: float = 0.0) -> None:
        self._lab = lab
        self._on_progress = on_progress
        self._minute_s = minute_s
        self.journal = Journal(lab.home / JOURNAL)
        self.faults = Faults(lab.home)
        self._looked_at = 0.0
        self._made: tuple[object, Timeline] | None = None

    def next_week(self) -> Window:
        """The first week that was not played to its end."""
        cursor = self.journal.cursor()
        return FIRST_WEEK if cursor is None else Window.containing(cursor)

    def play(self, weeks: int) -> Progress:
        """Play so many weeks; each is decided by the watcher before the next begins.

        Raises:
            NoChampion: There is nobody to ask.
            ServiceNotReady: The platform did not keep up.
        """
        self._lab.ledger.champion()
        first = self.next_week()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(self._play([first.before(-i) for i in range(weeks)]))

    async def _play(self, weeks: Sequence[Window]) -> Progress:
        service = self._lab.settings.service
        token = read_token(self._lab.keys / f"{FEEDBACK}.token")
        client = Client(service.host, service.port, token=token)
        driver = Driver(
            bus=self._lab.bus,
            client=client,
            journal=self.journal,
            item_of=report_item,
            settled=self._settled,
            agreed=self._agreed,
            on_progress=self._on_progress,
            minute_s=self._minute_s,
        )
        try:
            cursor = self.journal.cursor()
            if cursor is None:
                cursor = weeks[0].start
                self._warm_up(cursor)
            progress = None
            for week in weeks:
                progress = await driver.play(self._timeline(week), cursor, [week.closes_at])
                cursor = week.closes_at
            assert progress is not None
            return progress
        finally:
            client.close()

    def _warm_up(self, until: datetime) -> None:
        year = source.load(self._lab.settings.data)
        publish_references(self._lab.bus, list(messages.aircraft(year.aircraft, until)))
        self._lab.bus.publish(OBSERVATIONS, self._timeline(Window.containing(until)).warm_up(until))

    def _timeline(self, week: Window) -> Timeline:
        """The timeline that covers a week; the same object as long as neither the year nor the faults change."""
        year, faults = source.load(self._lab.settings.data), tuple(self.faults.active())
        behind = week.closes_at > year.flights["scheduled_departure"].iloc[-1]
        key = (week if behind else None, faults)
        if self._made is None or self._made[0] != key:
            year = source.continued(year, week.closes_at) if behind else year
            for one in faults:
                year = fault_called(one.name).change(year, one.since)
            self._made = (key, Timeline(year, self._lab.seed))
        return self._made[1]

    def _settled(self) -> bool:
        if settled(self._lab):
            return True
        if time.monotonic() - self._looked_at > 2:
            self._looked_at = time.monotonic()
            require_running(self._lab.home, WATCHER)
        return False

    def _agreed(self, body: bytes) -> bool:
        try:
            return bool(orjson.loads(body)["version"] == self._lab.ledger.champion().version)
        except NoChampion:
            return False
