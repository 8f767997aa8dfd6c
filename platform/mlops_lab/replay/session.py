"""One replay in a home: the timeline with the faults that are on, the driver, and the journal, put together."""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import orjson
import uvloop

from mlops_lab.bootstrap import Lab
from mlops_lab.bootstrap.chosen import chosen
from mlops_lab.bootstrap.feature_progress import feature_progress
from mlops_lab.bootstrap.identities import FEEDBACK
from mlops_lab.bootstrap.running import require_not_gone, workers_of
from mlops_lab.bootstrap.services import INFERENCE
from mlops_lab.clock import iso
from mlops_lab.embedded.ports import split
from mlops_lab.errors import HomeInUse, NoChampion, UsageError
from mlops_lab.events import FEEDBACK as REPORTS
from mlops_lab.events import OBSERVATIONS, SCHEDULE
from mlops_lab.flights import messages, source
from mlops_lab.flights.faults import during, fault_called
from mlops_lab.flights.timeline import PLANNED_AHEAD, Timeline, report_item
from mlops_lab.governance.approval import read_token
from mlops_lab.monitoring.window import Window
from mlops_lab.pipelines.feedback import reported
from mlops_lab.pipelines.worker import settled
from mlops_lab.replay.ahead import Prepared, Steps
from mlops_lab.replay.client import Client
from mlops_lab.replay.driver import Driver, Progress
from mlops_lab.replay.faults import Faults
from mlops_lab.replay.journal import Journal
from mlops_lab.replay.lead import Lead
from mlops_lab.replay.publisher import publish_references
from mlops_lab.replay.resume import Answered, answered_since
from mlops_lab.replay.turn import Turn

JOURNAL = "replay.db"
FIRST_WEEK = Window.of_week("2013-W14")
"""Production starts on Monday, 1 April 2013; what came before is history."""

LOOK_FOR_OTHERS_S = 0.5


def needed(lab: Lab) -> tuple[str, ...]:
    """The services that have to live while event time goes by."""
    return (INFERENCE, *workers_of(lab.settings))


class Session:
    """Plays weeks in a home, each time from where the last replay stopped.

    Behind 2013 the same year is played again 52 weeks later, so that a platform can be lived with for as long as one likes.

    A week that was interrupted, or whose replay was killed, is played from its beginning, but nobody is asked twice.

    Args:
        lab: The home's ports.
        on_progress: See `Driver`.
        minute_s: Wall seconds to let pass per minute of event time.
        on_wait: Called again and again while something is waited for.
        gives_way: Stop between two requests when another replay asks for its turn.
        beat: Called twice a second by one who gives way, for as long as it goes on.
        on_trouble: Called with a sentence when the bus or the feature store is away, and with an empty one when it is back.

    The rest follows from what the home uses. With Kafka, plans go ahead of the questions and outcomes are told on the bus instead of over
    HTTP. With an online store, the facts of a span go ahead of its questions, which wait until the stream processor has them.
    """

    def __init__(
        self,
        lab: Lab,
        on_progress: Callable[[Progress], None],
        minute_s: float = 0.0,
        on_wait: Callable[[], None] = lambda: None,
        on_trouble: Callable[[str], None] = lambda trouble: None,
        gives_way: bool = False,
        beat: Callable[[], object] = lambda: None,
    ) -> None:
        self._lab = lab
        self._turn, self._gives_way, self._beat = Turn(lab.home, gives_way), gives_way, beat
        self._is_alone = self._gave_way = False
        self._on_progress = on_progress
        self._on_wait = on_wait
        self._on_trouble = on_trouble
        parts = chosen(lab.settings)
        self._on_kafka, self._leads = parts.bus == "kafka", parts.store != "process"
        self._minute_s = minute_s
        self.journal = Journal(lab.home / JOURNAL)
        self.faults = Faults(lab.home)
        self._made: tuple[object, Timeline] | None = None
        self._following: Window | None = None
        self._steps: Steps | None = None

    def next_week(self) -> Window:
        """The first week that was not played to its end."""
        return Window.containing(self.journal.cursor() or self._origin)

    @property
    def _origin(self) -> datetime:
        return self.journal.origin() or FIRST_WEEK.start

    def begin_with(self, week: Window) -> None:
        """Let production begin with a later week than the first: those before are never asked about. Saying it again changes nothing.

        Raises:
            UsageError: It has begun with another week, or the year has none such in production.
        """
        if not FIRST_WEEK <= week <= source.LAST_WEEK:
            raise UsageError(
                f"Production cannot begin with {week.id}.",
                f"choose a week from {FIRST_WEEK.id} to {source.LAST_WEEK.id}; others are history.",
            )
        begun = self.journal.cursor() is not None or self.journal.unfinished() or self.journal.origin() is not None
        if begun and week.start != self._origin:
            first = Window.containing(self._origin).id
            raise UsageError(
                f"Production began with {first} and has come to {iso(self.reached())}; time does not jump.",
                "go on from there without --from, or begin in a home of its own (LAB_HOME).",
            )
        self.journal.begin_at(week.start)

    def reached(self) -> datetime:
        """The event time that production has come to: the last finished week's closing, or the last answer of an interrupted one."""
        cursor = self.journal.cursor() or self._origin
        return max((moment for _, moment in self._answered(cursor).values()), default=cursor)

    def play(self, weeks: int) -> Progress:
        """Play so many weeks; each is decided by the watcher before the next begins.

        Raises:
            NoChampion: There is nobody to ask.
            HomeInUse: Another process replays in this home, or asked for its turn and was let in.
            ServiceNotReady: The platform did not keep up, or a service of it died.
            KeyboardInterrupt: Ctrl-C or SIGTERM; what was under way is finished and written down.
        """
        self._lab.ledger.champion()
        self._gave_way = False
        with self.alone():
            first = self.next_week()
            self._timeline(first)  # takes seconds, and Ctrl-C is heard at once where no loop runs
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                progress = runner.run(self._play([first.before(-i) for i in range(weeks)]))
        if progress is None and self._gave_way:
            raise HomeInUse("Another replay asked for its turn.", "it goes on when that one has ended.")
        if progress is None:
            raise KeyboardInterrupt
        return progress

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Have the turn in this home over several plays; see `Turn`. Raises HomeInUse."""
        if self._is_alone:
            yield
            return
        with self._turn.mine():
            self._is_alone = True
            try:
                yield
            finally:
                self._is_alone = False

    def _answered(self, after: datetime) -> Answered:
        return answered_since(self._lab, after) if self.journal.unfinished() else {}

    async def _play(self, weeks: Sequence[Window]) -> Progress | None:
        """None when it was stopped by Ctrl-C."""
        reached = self.journal.cursor()
        start = reached or weeks[0].start
        token = read_token(self._lab.keys / f"{FEEDBACK}.token")
        host, port = split(self._lab.settings.service.reached_at)
        client = Client(host, port, token=token)
        driver = Driver(
            bus=self._lab.bus,
            client=client,
            journal=self.journal,
            item_of=report_item,
            settled=self._settled,
            agreed=self._agreed,
            on_progress=self._on_progress,
            on_wait=self._wait,
            answered=self._answered(start),
            minute_s=self._minute_s,
            lead=Lead(self._lab.bus, feature_progress(self._lab.settings).read) if self._leads else None,
            reporting=self._report if self._on_kafka else None,
            on_trouble=self._on_trouble,
            require_life=self._require_life,
        )
        loop = asyncio.get_running_loop()

        def on_ctrl_c() -> None:
            driver.stop()
            loop.remove_signal_handler(signal.SIGINT)  # a second one does not wait

        if threading.current_thread() is threading.main_thread():
            loop.add_signal_handler(signal.SIGINT, on_ctrl_c)
            loop.add_signal_handler(signal.SIGTERM, driver.stop)  # as `docker stop` asks
        giving_way = loop.create_task(self._give_way(driver)) if self._gives_way else None
        try:
            if reached is None:
                self._warm_up(start)
            else:
                await driver.settle(reached)  # the last replay may have ended before all was decided
            progress = None
            for week, following in zip(weeks, [*weeks[1:], None], strict=True):
                if not driver.stopped:
                    stretch = Prepared(self._timeline(week), self._steps, self._on_kafka)
                    self._following, self._steps = following, None
                    progress = await driver.play(stretch, start, [week.closes_at])
                    start = week.closes_at
            return None if driver.stopped else progress
        finally:
            if giving_way is not None:
                giving_way.cancel()
            client.close()

    async def _give_way(self, driver: Driver) -> None:
        while not self._turn.wanted():
            self._beat()
            await asyncio.sleep(LOOK_FOR_OTHERS_S)
        self._gave_way = True
        driver.stop()

    def _warm_up(self, until: datetime) -> None:
        year = source.load(self._lab.settings.data)
        timeline = self._timeline(Window.containing(until))
        publish_references(self._lab.bus, list(messages.aircraft(year.aircraft, until)))
        if self._on_kafka:
            ahead = timeline.steps(until - PLANNED_AHEAD, until, questions=False, plans=True)
            self._lab.bus.publish(SCHEDULE, [plan for step in ahead for plan in step.plans])
        self._lab.bus.publish(OBSERVATIONS, timeline.warm_up(until))

    def _report(self, items: Sequence[Mapping[str, Any]]) -> None:
        self._lab.bus.publish(REPORTS, [reported(self._lab.model, item) for item in items])

    def _timeline(self, week: Window) -> Timeline:
        """The timeline that covers a week; the same object as long as neither the year nor the faults change."""
        year, faults = source.load(self._lab.settings.data), tuple(self.faults.all())
        behind = week.closes_at > year.flights["scheduled_departure"].iloc[-1]
        key = (week if behind else None, faults)
        if self._made is None or self._made[0] != key:
            year = source.continued(year, week.closes_at) if behind else year
            for one in faults:
                year = during(fault_called(one.name), year, one.since, one.until)
            self._made = (key, Timeline(year, self._lab.seed))
        return self._made[1]

    def _settled(self) -> bool:
        return settled(self._lab)

    def _wait(self) -> None:
        """While event time is held this process has nothing to do but to make the next week ready."""
        self._on_wait()
        if self._following is not None and self._steps is None:
            start, end = self._following.before().closes_at, self._following.closes_at
            self._steps = Steps.ahead(self._timeline(self._following), start, end, self._on_kafka)

    def _require_life(self) -> None:
        for name in needed(self._lab):
            require_not_gone(self._lab.settings, name)

    def _agreed(self, body: bytes) -> bool:
        try:
            return bool(orjson.loads(body)["version"] == self._lab.ledger.champion().version)
        except NoChampion:
            return False
