"""Plays event time against the running platform: publishes facts, asks questions, reports outcomes, and holds while a week is decided."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

import orjson

from mlops_lab.errors import ServiceNotReady
from mlops_lab.events import CONTROL, EventBus, Message
from mlops_lab.replay.client import Answer, Client
from mlops_lab.replay.journal import Attempt, Journal
from mlops_lab.replay.lead import Lead
from mlops_lab.replay.patience import Patience
from mlops_lab.replay.publisher import Publisher, Reporting

CLOCK_REACHED = "ClockReached"
"""Control event: event time has come to `at`. Windows that end before it may be closed."""

PROBE_EVERY_S = 0.05
SETTLE_TIMEOUT_S = 300.0
PROMPT_S = 0.2
"""Within so many seconds a paced replay hears that it is to stop."""
REMEMBERED = timedelta(days=7)
"""How long the id of an answer is kept to report its outcome by; the latest report comes after three days."""


class Stretch(Protocol):
    """What the driver needs of a timeline. `flights.timeline.Timeline` is one."""

    def steps(self, after: datetime, until: datetime) -> Iterator[Any]: ...


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the replay is, for a person.

    Attributes:
        at: Event time.
        questions: Asked so far in this call.
        reports: Outcomes sent so far in this call.
        failed: Attempts without a 2xx answer.
        held_s: Wall seconds spent holding event time while something was decided.
    """

    at: datetime
    questions: int
    reports: int
    failed: int
    held_s: float


class Driver:
    """Drives one replay. Facts are published before the questions of the same minute; several requests are under way at once, which
    changes nothing, since features are read as of each question's own moment."""

    def __init__(
        self,
        *,
        bus: EventBus,
        client: Client,
        journal: Journal,
        item_of: Callable[[Any, str], dict[str, Any]],
        settled: Callable[[], bool],
        agreed: Callable[[bytes], bool],
        on_progress: Callable[[Progress], None],
        on_wait: Callable[[], None],
        answered: Mapping[str, tuple[str, datetime]],
        minute_s: float = 0.0,
        lead: Lead | None = None,
        reporting: Reporting | None = None,
        on_trouble: Callable[[str], None] = lambda trouble: None,
        require_life: Callable[[], None] = lambda: None,
    ) -> None:
        """Args:
        bus: Where facts go.
        client: The connections to the service.
        journal: Keeps every attempt.
        item_of: Builds the feedback item from a report and a prediction id.
        settled: True when everything that follows from the last tick has been decided and done.
        agreed: True when the body of `/v1/model` names the champion of the ledger.
        on_progress: Called every six hours of event time, and after each hold.
        on_wait: Called again and again while event time is held.
        answered: Entities that an interrupted replay has asked about already: prediction id and moment. They are not asked again.
        minute_s: Wall seconds per minute of event time, which stands while a week is decided; 0 is as fast as it goes.
        lead, reporting: See `Publisher`.
        on_trouble, require_life: See `Patience`.
        """
        self._client, self._journal = client, journal
        self._item_of, self._settled, self._agreed = item_of, settled, agreed
        self._on_progress, self._minute_s = on_progress, minute_s
        self._answered = frozenset(answered)
        self._answered_until = max((moment for _, moment in answered.values()), default=None)
        self._patience = Patience(on_wait, on_trouble, lambda: self._stopping, require_life)
        self._publisher = Publisher(bus, journal, self._patience, lead, reporting)
        self._open = journal.open_questions() | dict(answered)
        self._stopping = False
        self._under_way: set[asyncio.Task[None]] = set()
        self._trouble: BaseException | None = None
        self._room = asyncio.Semaphore(8)
        self._last_question: bytes | None = None
        self._asked = self._reported = self._failed = 0
        self._held_s = 0.0

    def stop(self) -> None:
        """Start no further request; `play` finishes those under way, writes the journal and returns."""
        self._stopping = True

    @property
    def stopped(self) -> bool:
        """Whether `play` ended before its last tick because of `stop`."""
        return self._stopping

    async def play(self, timeline: Stretch, after: datetime, ticks: Sequence[datetime]) -> Progress:
        """Play from a moment through each tick; at a tick all requests are finished and event time stands until all is decided.

        After `stop` it returns early, with the cursor at the last tick that was reached.

        Raises:
            ServiceNotReady: The platform did not settle, or the service did not follow the ledger, in time.
        """
        at = after
        for tick in ticks:
            self._journal.begin()
            try:
                await self._stretch(timeline, at, tick)
                await self._drain()
            finally:
                self._journal.flush()
            if self._stopping:
                break
            self._open = {entity: known for entity, known in self._open.items() if tick - known[1] <= REMEMBERED}
            self._journal.flush(cursor=tick, open_questions=self._open)
            await self.settle(tick)
            at = tick
        return self._report(at)

    async def settle(self, tick: datetime) -> None:
        """Tell that event time has come to a tick, and hold until what follows is done. Again changes nothing: a replay that was
        interrupted between the two is taken up here."""
        if not await self._publisher.all_sent():
            return  # told to stop: the next replay settles it
        await self._publisher.publish(CONTROL, [Message(CLOCK_REACHED, tick, "clock", {}, id=f"clock-{tick:%Y%m%dT%H%MZ}")])
        await self.hold(tick)

    async def _stretch(self, timeline: Stretch, after: datetime, until: datetime) -> None:
        hour, began = after, time.monotonic()
        paced_from = max(after, self._answered_until or after)  # what was played before an interruption is not lived through again
        async for step in self._publisher.steps(timeline.steps(after, until), lambda: self._stopping, self._drain):
            await self._until(step.at - paced_from, began)
            if self._stopping:
                return
            questions = [one for one in step.questions if one[0] not in self._answered] if self._answered else step.questions
            if questions:
                await self._start(self._ask(step.at, questions))
            if step.reports:
                if any(report.entity not in self._open for report in step.reports):
                    await self._drain()  # an outcome is reported by the id of its answer, which may be under way
                await self._start(self._tell(step.at, step.reports))
            if step.at - hour >= timedelta(hours=6):
                hour = step.at
                self._report(step.at)
        await self._until(until - paced_from, began)

    async def _until(self, passed: timedelta, began: float) -> None:
        """Let wall time come to where so much event time has passed, at the chosen speed; a replay that is behind does not wait."""
        due = began + passed.total_seconds() / 60 * self._minute_s
        while self._minute_s and not self._stopping and (left_s := due - time.monotonic()) > 0:
            await asyncio.sleep(min(left_s, PROMPT_S))

    async def hold(self, at: datetime) -> None:
        """Let event time stand until the platform has settled and the service has followed, with probe traffic going on meanwhile."""
        began = time.monotonic()
        done = asyncio.Event()
        probing = asyncio.create_task(self._probe(at, done))
        try:
            await self._patience.until(
                self._is_settled, SETTLE_TIMEOUT_S, "The watcher did not finish its work", "`lab status` and the watcher's log"
            )
            behind = "The service does not serve the ledger's champion"
            await self._patience.until(self._is_followed, SETTLE_TIMEOUT_S, behind, "`lab status` and the service's log")
        finally:
            done.set()
            await probing
            self._journal.flush()
            self._held_s += time.monotonic() - began
        self._report(at)

    async def _is_settled(self) -> bool:
        return bool(await self._publisher.aside(self._settled))

    async def _is_followed(self) -> bool:
        answer = await self._client.get("/v1/model")
        return answer.status == 200 and self._agreed(answer.body)

    async def _start(self, work: Any) -> None:
        await self._room.acquire()
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._finished)
        await asyncio.sleep(0)  # let it send: the service works while the next step is made ready here

    def _finished(self, task: "asyncio.Task[None]") -> None:
        self._under_way.discard(task)
        self._room.release()
        if not task.cancelled():
            trouble = task.exception()  # asked of each, or Python says with a traceback that nobody did
            self._trouble = self._trouble or trouble

    async def _drain(self) -> None:
        while self._under_way:
            await asyncio.wait(self._under_way)
        if self._trouble is not None:
            raise self._trouble  # an answer that could not be read must not go unnoticed because its request ended between two waits

    async def _ask(self, at: datetime, questions: Sequence[tuple[str, bytes]]) -> None:
        self._last_question = questions[-1][1]
        answer = await self._client.post("/v1/predict", b'{"items":[' + b",".join(item for _, item in questions) + b"]}")
        ids = self._ids(answer) if answer.status == 200 else ()
        for (entity, _), identifier in zip(questions, ids, strict=False):
            self._open[entity] = (identifier, at)
        self._asked += len(questions)
        self._note("predict", at, len(questions), answer, ids)
        _require_reached(answer)

    async def _tell(self, at: datetime, reports: Sequence[Any]) -> None:
        known = [(report, self._open[report.entity][0]) for report in reports if report.entity in self._open]
        if not known:
            return
        items = [self._item_of(report, identifier) for report, identifier in known]
        if self._publisher.reports:
            answer = await self._publisher.report(items)
        else:
            answer = await self._client.post("/v1/feedback", orjson.dumps({"items": items}))
        accepted = 200 <= answer.status < 300
        self._reported += len(known)
        self._note("feedback", at, len(known), answer, tuple(report.event_id for report, _ in known) if accepted else ())
        _require_reached(answer)

    async def _probe(self, at: datetime, done: asyncio.Event) -> None:
        """Ask the last question again and again; once more when all is done, so that the version that serves now has answered."""
        last = self._last_question is None
        while not last:
            last = done.is_set()
            answer = await self._client.post("/v1/predict", b'{"purpose":"probe","items":[' + (self._last_question or b"") + b"]}")
            self._note("probe", at, 1, answer, self._ids(answer) if answer.status == 200 else ())
            await asyncio.sleep(0 if last else PROBE_EVERY_S)

    @staticmethod
    def _ids(answer: Answer) -> tuple[str, ...]:
        return tuple(item["prediction_id"] for item in orjson.loads(answer.body)["items"])

    def _note(self, kind: str, at: datetime, rows: int, answer: Answer, ids: tuple[str, ...]) -> None:
        failed = not 200 <= answer.status < 300
        self._failed += failed
        reason = answer.body[:300].decode("utf-8", "replace") if failed else ""
        self._journal.add(Attempt(kind, at, rows, answer.status, answer.latency_us, ids, reason))

    def _report(self, at: datetime) -> Progress:
        progress = Progress(at, self._asked, self._reported, self._failed, self._held_s)
        self._on_progress(progress)
        return progress


def _require_reached(answer: Answer) -> None:
    """End the replay when nobody answers at all: going on would leave the rest of the week unasked for good."""
    if answer.status == 0:
        raise ServiceNotReady(
            f"The inference service does not answer: {answer.body.decode('utf-8', 'replace')}.",
            "see `lab status`; once it answers, `lab replay` goes on in the same week.",
        )
