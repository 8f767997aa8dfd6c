"""The replay plays the year as production would, sends everything once, keeps its own record of it, and waits while a week is decided."""

import asyncio
import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from flight_builders import SCHEDULED, a_flight, a_year, arrived, departed, observed
from mlops_lab.clock import from_iso, iso
from mlops_lab.errors import BusUnreachable, FeatureStoreUnreachable, ServiceNotReady
from mlops_lab.events import CONTROL, FEEDBACK, OBSERVATIONS, REFERENCES, SCHEDULE
from mlops_lab.events.on_sqlite import SqliteBus
from mlops_lab.features.rows import Progress as Rows
from mlops_lab.flights.source import Year
from mlops_lab.flights.timeline import Step, Timeline, report_item
from mlops_lab.pipelines.feedback import reported
from mlops_lab.replay import driver as driver_module
from mlops_lab.replay import patience as patience_module
from mlops_lab.replay import publisher as publisher_module
from mlops_lab.replay.ahead import Prepared
from mlops_lab.replay.client import Answer
from mlops_lab.replay.driver import Driver, Progress
from mlops_lab.replay.journal import Journal
from mlops_lab.replay.lead import SPAN, Lead

MONDAY = datetime(2013, 4, 1, tzinfo=UTC)
MINUTE, DAY, WEEK = timedelta(minutes=1), timedelta(days=1), timedelta(weeks=1)

# --- The driver -------------------------------------------------------------------------------------------------------------------


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


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    yield made
    made.journal.close()
    made.bus.close()


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


def test_questions_are_asked_once_and_outcomes_told_by_the_id_of_their_answer(stage: Stage) -> None:
    progress = stage.play(flights_of("a", "b", "c"), SCHEDULED + 4 * DAY)
    told = {item["event_id"]: (item["prediction_id"], item["outcome"]) for item in stage.service.told() if item["revision"] == 0}

    assert sorted(stage.service.asked()) == ["a", "b", "c"]
    assert told.keys() == {"landed-a-0", "landed-b-0", "landed-c-0"}
    assert told["landed-a-0"] == ("of-a", {"arrival_delay_min": 20})
    assert (progress.questions, progress.failed, progress.at) == (3, 0, SCHEDULED + 4 * DAY)
    assert stage.journal.ids("predict") == ["of-a", "of-b", "of-c"]


def test_a_service_that_does_not_answer_ends_the_replay_where_it_stands(stage: Stage) -> None:
    """Each question would fail at once and the week would be over in a moment; so it ends, and the week is not counted as played."""
    stage.service.status = 0

    with pytest.raises(ServiceNotReady, match="does not answer"):
        stage.play(flights_of("a", "b", "c"), SCHEDULED + 4 * DAY)

    assert stage.journal.cursor() is None
    assert stage.journal.unfinished()
    assert stage.journal.tally("predict").failed >= 1


def test_several_requests_without_an_answer_are_one_error(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    async def nobody(path: str, body: bytes) -> Answer:
        await asyncio.sleep(0.01)
        return Answer(0, b"refused", 10)

    stage.service.post = nobody  # type: ignore[method-assign]
    with pytest.raises(ServiceNotReady, match="refused"):
        stage.play(flights_of("A", "B", "C"), SCHEDULED)
    gc.collect()

    assert caplog.records == []


def test_the_facts_of_a_minute_are_on_the_bus_before_its_questions(stage: Stage) -> None:
    """The weather of the very minute of the question is there when it is asked."""
    same_minute = a_year([a_flight("a"), departed(NOON, 5), arrived(NOON, 9)], [observed(NOON, 70.0), observed(NOON + MINUTE, 80.0)])
    stage.play(same_minute, SCHEDULED)
    on_the_bus = next(head for path, said, head in stage.service.sent if path == "/v1/predict" and said["items"][0]["flight_id"] == "a")

    assert on_the_bus == 3
    assert all(delivery.message.at <= NOON for delivery in stage.bus.read(OBSERVATIONS, 0, limit=on_the_bus))


def test_event_time_stands_at_a_tick_until_all_is_decided_and_probes_go_on(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver_module, "PROBE_EVERY_S", 0.001)
    looks: list[tuple[int, list[str]]] = []

    def settled() -> bool:
        looks.append((stage.bus.head(CONTROL), stage.service.asked()))
        return len([one for one in looks if one[0] == 1]) >= 3

    stage.settled = settled
    year = a_year([a_flight("before"), a_flight("after", scheduled_departure=SCHEDULED + 2 * DAY)])
    progress = stage.play(year, SCHEDULED + DAY, SCHEDULED + 3 * DAY)
    ticks = [(each.message.type, each.message.at) for each in stage.bus.read(CONTROL, 0)]

    assert looks[:3] == [(1, ["before"])] * 3
    assert stage.service.asked() == ["before", "after"]
    assert ticks == [("ClockReached", SCHEDULED + DAY), ("ClockReached", SCHEDULED + 3 * DAY)]
    assert stage.journal.tally("probe").attempts >= 2
    assert stage.journal.tally("probe").failed == 0
    assert progress.held_s > 0


def test_probes_are_marked_as_such_and_count_as_no_question(stage: Stage) -> None:
    looks = iter([False, False, True])
    stage.settled = lambda: next(looks)
    progress = stage.play(flights_of("a"), SCHEDULED)
    probes = [said for path, said, _ in stage.service.sent if said.get("purpose") == "probe"]

    assert probes
    assert all(said["items"][0]["flight_id"] == "a" for said in probes)
    assert progress.questions == 1
    assert stage.journal.ids("predict") == ["of-a"]


def test_a_tick_waits_until_the_service_serves_the_champion_of_the_ledger(stage: Stage) -> None:
    answers = iter([False, False, True])
    stage.agreed = lambda body: next(answers)

    assert stage.play(flights_of("a"), SCHEDULED).at == SCHEDULED
    assert next(answers, "all were asked for") == "all were asked for"


def test_a_dead_watcher_ends_the_wait_with_its_error(stage: Stage) -> None:
    def look() -> None:
        raise ServiceNotReady("The watcher is dead.", "see its log.")

    stage.settled, stage.on_wait = lambda: False, look
    with pytest.raises(ServiceNotReady, match="watcher is dead"):
        stage.play(flights_of("a"), SCHEDULED)
    assert stage.journal.cursor() == SCHEDULED  # what was asked is written down, and its tick is told
    assert stage.bus.head(CONTROL) == 1


@pytest.mark.parametrize(("settled", "who"), [(False, "watcher"), (True, "service")])
def test_a_platform_that_does_not_settle_in_time_is_named(stage: Stage, monkeypatch: pytest.MonkeyPatch, settled: bool, who: str) -> None:
    monkeypatch.setattr(driver_module, "SETTLE_TIMEOUT_S", 0.0)
    stage.settled, stage.agreed = lambda: settled, lambda body: False

    with pytest.raises(ServiceNotReady, match=who):
        stage.play(flights_of("a"), SCHEDULED)


def test_a_failed_question_is_recorded_and_its_outcome_has_nobody_to_go_to(stage: Stage) -> None:
    stage.service.status = 503
    progress = stage.play(flights_of("a", "b"), SCHEDULED + 4 * DAY)

    assert stage.service.told() == []
    assert len(stage.service.asked()) == 2  # each once: nothing is tried again
    assert progress.failed >= 2
    assert stage.journal.tally("predict").failed == 2
    assert stage.journal.failures(1)[0][2:] == (503, "no")


@pytest.mark.parametrize("body", [b"not json", b"{}", b'{"items":[{}]}'])
def test_an_answer_that_cannot_be_read_stops_the_replay(stage: Stage, body: bytes) -> None:
    """It would be an answer without an id: unnoticed, its outcome would be lost."""
    stage.service.body = body

    with pytest.raises((ValueError, KeyError)):
        stage.play(flights_of("a", "b"), SCHEDULED + DAY)


def test_an_outcome_waits_for_the_answer_that_is_still_under_way(stage: Stage) -> None:
    class Slow(Service):
        async def post(self, path: str, body: bytes) -> Answer:
            if path == "/v1/predict":
                await asyncio.sleep(0.02)
            return await super().post(path, body)

    stage.service = Slow(stage.bus)
    landed = NOON + MINUTE
    year = a_year([a_flight("a", departed_at=NOON, departure_delay_min=0.0, arrived_at=landed, arrival_delay_min=-5.0)])
    stage.play(year, SCHEDULED + 4 * DAY)

    assert {item["prediction_id"] for item in stage.service.told()} == {"of-a"}


def test_a_second_replay_tells_the_outcomes_of_what_the_first_has_asked(stage: Stage) -> None:
    year = flights_of("a")
    stage.play(year, SCHEDULED)
    assert stage.service.told() == []
    stage.play(year, SCHEDULED + 4 * DAY, after=SCHEDULED)

    assert stage.service.asked() == ["a"]
    assert {item["prediction_id"] for item in stage.service.told()} == {"of-a"}


def test_who_was_answered_before_an_interruption_is_not_asked_again(stage: Stage) -> None:
    driver = stage.driver(answered={"a": ("of-a-then", NOON)})
    asyncio.run(driver.play(Timeline(flights_of("a", "b"), seed=1), SCHEDULED - DAY, [SCHEDULED + 4 * DAY]))

    assert stage.service.asked() == ["b"]
    assert {item["prediction_id"] for item in stage.service.told()} == {"of-a-then", "of-b"}


def test_a_stopped_replay_finishes_what_is_under_way_and_stays_behind_its_last_tick(stage: Stage) -> None:
    driver = stage.driver()

    class Stopping(Timeline):
        def steps(self, after: datetime, until: datetime, **how: Any) -> Iterator[Step]:
            for step in super().steps(after, until, **how):
                yield step
                if step.questions:
                    driver.stop()

    asyncio.run(driver.play(Stopping(flights_of("a", "b"), seed=1), SCHEDULED - DAY, [SCHEDULED, SCHEDULED + DAY]))

    assert driver.stopped
    assert stage.journal.ids("predict") == ["of-a"]
    assert stage.journal.cursor() is None
    assert stage.journal.unfinished()
    assert stage.bus.head(CONTROL) == 0


def test_at_a_chosen_speed_event_time_goes_by_in_wall_time_whether_something_happens_or_not(stage: Stage) -> None:
    """A day is 1,440 minutes, of which two have something in them."""
    stage.minute_s = 0.5 / 1440
    began = time.monotonic()

    stage.play(flights_of("A"), SCHEDULED, after=SCHEDULED - DAY)

    assert 0.5 <= time.monotonic() - began < 5


def test_a_slow_replay_hears_at_once_that_it_is_to_stop(stage: Stage) -> None:
    stage.minute_s = 60.0
    driver = stage.driver()

    async def play() -> Progress:
        asyncio.get_running_loop().call_later(0.1, driver.stop)
        return await driver.play(Timeline(flights_of("A"), seed=1), SCHEDULED - DAY, [SCHEDULED])

    began = time.monotonic()
    progress = asyncio.run(play())

    assert driver.stopped
    assert progress.questions == 0
    assert time.monotonic() - began < 5


def test_what_was_played_before_an_interruption_is_not_lived_through_again(stage: Stage) -> None:
    """Asked at 11:00 of the day; the hour until then is not waited for a second time."""
    stage.minute_s = 60.0
    driver = stage.driver(answered={"A": ("p-1", SCHEDULED + DAY)})
    began = time.monotonic()

    asyncio.run(driver.play(Timeline(flights_of("A"), seed=1), SCHEDULED - DAY, [SCHEDULED]))

    assert driver.stopped is False
    assert time.monotonic() - began < 5


def test_two_replays_of_the_same_time_publish_each_fact_and_tick_once(stage: Stage) -> None:
    for _ in range(2):
        stage.play(flights_of("a", "b"), SCHEDULED + DAY)
    ids = [delivery.message.id for topic in (OBSERVATIONS, CONTROL) for delivery in stage.bus.read(topic, 0)]

    assert len(ids) == len(set(ids)) == 6


# --- With a stream processor between bus and service, or a broker -------------------------------------------------------------------


class Processing:
    """A stream processor that has taken in what was there some looks ago, and a store that says so."""

    def __init__(self, bus: SqliteBus, behind: int = 0) -> None:
        self._bus = bus
        self._behind = behind
        self.said: list[int] = []
        self.away: list[Exception] = []

    def progress(self) -> Rows | None:
        if self.away:
            raise self.away.pop()
        self.said.append(self._bus.head(OBSERVATIONS))
        head = self.said[max(0, len(self.said) - 1 - self._behind)]
        return Rows({OBSERVATIONS: (head,), REFERENCES: (0,)}, 0, 0.0, "e") if head else None

    @property
    def taken_in(self) -> int:
        """The offset that rows hold now."""
        return self.said[max(0, len(self.said) - 1 - self._behind)] if self.said else 0


@dataclass
class LedStage(Stage):
    behind: int = 0
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.processing = Processing(self.bus, self.behind)

    def more(self) -> dict[str, Any]:
        return {
            "lead": Lead(self.bus, self.processing.progress),
            "reporting": lambda items: self.bus.publish(FEEDBACK, [reported("flight-delay", item) for item in items]),
            "on_trouble": self.told.append,
        }

    def play(self, year: Year, *ticks: datetime, after: datetime = SCHEDULED - DAY) -> Progress:
        timeline = Prepared(Timeline(year, seed=1), None, plans=True)
        return asyncio.run(self.driver().play(timeline, after, ticks))


@pytest.fixture
def led(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LedStage]:
    monkeypatch.setattr(patience_module, "LOOK_EVERY_S", 0.0)
    made = LedStage(tmp_path, behind=3)
    yield made
    made.journal.close()
    made.bus.close()


def busy_hours() -> Year:
    """A flight leaves, and another is asked about, every five minutes of four hours."""
    rows = []
    for number in range(48):
        at = NOON + number * 5 * MINUTE
        rows += [departed(at, number, f"left-{number}"), a_flight(f"asked-{number}", scheduled_departure=at + timedelta(hours=1))]
    return a_year(rows, [observed(NOON, 70.0)])


def test_a_question_is_asked_when_all_facts_up_to_its_moment_are_in_the_rows(led: LedStage) -> None:
    asked: list[tuple[datetime, datetime, datetime]] = []
    real = led.service.post

    async def post(path: str, body: bytes) -> Answer:
        if path == "/v1/predict" and b"probe" not in body:
            facts = [one.message.at for one in led.bus.read(OBSERVATIONS, 0)]
            moment = max(from_iso(item["scheduled_departure"]) for item in orjson.loads(body)["items"]) - timedelta(hours=1)
            asked.append((moment, max(facts[: led.processing.taken_in]), max(facts)))
        return await real(path, body)

    led.service.post = post  # type: ignore[method-assign]
    led.play(busy_hours(), SCHEDULED + timedelta(hours=6))
    moments = [moment for moment, _, _ in asked if moment <= NOON + timedelta(hours=3)]

    assert len(moments) >= 36
    assert all(taken_in >= moment for moment, taken_in, _ in asked if moment in moments)
    assert all(newest - moment <= SPAN for moment, _, newest in asked)  # rows hold an hour


def test_facts_are_waited_for_once_in_a_span_and_not_each_minute(led: LedStage) -> None:
    led.play(busy_hours(), SCHEDULED + timedelta(hours=6))

    assert led.processing.said
    assert len(led.processing.said) <= 4 * (1 + timedelta(hours=9) / SPAN)


def test_what_is_under_way_ends_before_facts_of_the_next_span_are_published(led: LedStage) -> None:
    """Or its moment would fall behind what rows still hold."""
    under_way = 0
    real_post, real_publish = led.service.post, led.bus.publish

    async def post(path: str, body: bytes) -> Answer:
        nonlocal under_way
        under_way += 1
        await asyncio.sleep(0.001)
        answer = await real_post(path, body)
        under_way -= 1
        return answer

    def publish(topic: str, messages: Any) -> int:
        assert topic != OBSERVATIONS or not under_way
        return real_publish(topic, messages)

    led.service.post, led.bus.publish = post, publish  # type: ignore[method-assign]
    led.play(busy_hours(), SCHEDULED + timedelta(hours=6))

    assert len(led.service.asked()) == 96


def test_a_flight_is_planned_on_the_bus_before_it_is_asked_about(led: LedStage) -> None:
    led.play(busy_hours(), SCHEDULED + timedelta(hours=6), after=SCHEDULED - 2 * DAY)
    plans = {one.message.subject: one.message for one in led.bus.read(SCHEDULE, 0)}

    assert set(led.service.asked()) <= plans.keys()
    assert plans["asked-7"].data["scheduled_departure"] == iso(NOON + 35 * MINUTE + timedelta(hours=1))


def test_outcomes_are_told_on_the_bus_by_the_id_of_their_answer(led: LedStage) -> None:
    led.play(flights_of("a", "b"), SCHEDULED + 4 * DAY)
    told = {one.message.data["event_id"]: one.message for one in led.bus.read(FEEDBACK, 0)}

    assert led.service.told() == []
    assert told.keys() == set(led.journal.ids("feedback")) >= {"landed-a-0", "landed-b-0"}
    assert (told["landed-a-0"].type, told["landed-a-0"].key) == ("OutcomeReported", "of-a")


def test_a_second_replay_publishes_nothing_again_that_went_ahead(led: LedStage) -> None:
    """A broker takes an id twice."""
    led.play(busy_hours(), SCHEDULED + timedelta(hours=1))
    published: list[str] = []
    real = led.bus.publish

    def publish(topic: str, messages: Any) -> int:
        messages = list(messages)
        published.extend(each.id for each in messages if topic == OBSERVATIONS)
        return real(topic, messages)

    led.bus.publish = publish  # type: ignore[method-assign]
    before = {one.message.id for one in led.bus.read(OBSERVATIONS, 0)}
    led.play(busy_hours(), SCHEDULED + timedelta(hours=6))

    assert published
    assert before.isdisjoint(published)
    assert len({one.message.id for one in led.bus.read(OBSERVATIONS, 0)}) == 49


def test_a_store_or_a_broker_that_is_away_is_said_and_waited_for(led: LedStage, monkeypatch: pytest.MonkeyPatch) -> None:
    """For as long as it takes: only who answers and does nothing runs into the end of patience."""
    monkeypatch.setattr(publisher_module, "TAKEN_IN_TIMEOUT_S", 0.2)
    down = FeatureStoreUnreachable.at("the store", "it is down")
    led.processing.away = [down, down, BusUnreachable.at("the bus", "it is down"), down]
    led.on_wait = lambda: time.sleep(0.1) if led.processing.away else None
    led.play(busy_hours(), SCHEDULED)

    assert led.told == [down.what, ""]
    assert len(led.service.asked()) > 10


def test_a_processor_that_does_nothing_is_named(led: LedStage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher_module, "TAKEN_IN_TIMEOUT_S", 0.0)
    led.processing.progress = lambda: None  # type: ignore[method-assign]

    with pytest.raises(ServiceNotReady, match="stream processor"):
        led.play(busy_hours(), SCHEDULED)


def test_a_tick_waits_for_what_waits_for_the_broker_however_long_that_is_away(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows are decided on the outcomes that were reported before; topics are sent one after the other when the broker is back."""
    monkeypatch.setattr(publisher_module, "SENT_TIMEOUT_S", 0.5)
    looks: list[int] = []

    def head(topic: str, partition: int = 0) -> int:
        if topic != CONTROL:
            return SqliteBus.head(stage.bus, topic, partition)
        looks.append(len(SqliteBus.read(stage.bus, CONTROL, 0)))
        if len(looks) < 12:  # longer than anybody waits who has a broker that answers
            raise BusUnreachable.at("the broker", "it is away")
        return SqliteBus.head(stage.bus, topic, partition)

    monkeypatch.setattr(stage.bus, "head", head)
    monkeypatch.setattr(stage.bus, "waiting", lambda: {} if len(looks) >= 14 else {FEEDBACK: 3})
    stage.play(flights_of("a"), SCHEDULED)

    assert looks == [0] * 14
    assert len(stage.bus.read(CONTROL, 0)) == 1


def test_a_broker_that_is_away_is_told_from_a_processor_that_does_not_work(tmp_path: Path) -> None:
    """While facts wait for it too: it is waited for without an end, and the processor is not."""
    bus = SqliteBus(tmp_path / "bus.db")
    bus.waiting = lambda: {OBSERVATIONS: 3, CONTROL: 1}  # type: ignore[method-assign]

    def away(topic: str, partition: int = 0) -> int:
        raise BusUnreachable.at("the broker", "it is away")

    bus.head = away  # type: ignore[method-assign]
    with pytest.raises(BusUnreachable):
        Lead(bus, lambda: None).taken_in()


def test_what_waits_in_a_spool_is_not_taken_in(tmp_path: Path) -> None:
    """The heads of the broker do not count it yet."""

    bus = SqliteBus(tmp_path / "bus.db")
    lead = Lead(bus, lambda: None)
    for waiting, taken_in in (({}, True), ({OBSERVATIONS: 3}, False), ({REFERENCES: 1}, False), ({FEEDBACK: 3}, True)):
        bus.waiting = lambda said=waiting: said  # type: ignore[method-assign, misc]
        assert lead.taken_in() is taken_in
