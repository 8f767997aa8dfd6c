"""The replay plays the year as production would, sends everything once, keeps its own record of it, and waits while a week is decided."""

import asyncio
import gc
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from flight_builders import SCHEDULED, a_flight, a_year, arrived, departed, observed, span
from mlops_lab.clock import from_iso, iso
from mlops_lab.errors import BusUnreachable, FeatureStoreUnreachable, ServiceNotReady, StoreUnreachable, UnknownName
from mlops_lab.events import CONTROL, FEEDBACK, OBSERVATIONS, REFERENCES, SCHEDULE
from mlops_lab.events.on_sqlite import SqliteBus
from mlops_lab.features.rows import Progress as Rows
from mlops_lab.flights.source import Year
from mlops_lab.flights.timeline import REVISED_AFTER, Report, Step, Timeline, report_item
from mlops_lab.pipelines.feedback import reported
from mlops_lab.replay import client as client_module
from mlops_lab.replay import driver as driver_module
from mlops_lab.replay import patience as patience_module
from mlops_lab.replay import publisher as publisher_module
from mlops_lab.replay.ahead import Prepared
from mlops_lab.replay.client import Answer, Client
from mlops_lab.replay.driver import Driver, Progress
from mlops_lab.replay.faults import Faults
from mlops_lab.replay.journal import Attempt, Journal
from mlops_lab.replay.lead import SPAN, Lead

MONDAY = datetime(2013, 4, 1, tzinfo=UTC)
MINUTE, DAY, WEEK = timedelta(minutes=1), timedelta(days=1), timedelta(weeks=1)

# --- The timeline -----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fortnight(year: Year) -> Year:
    return span(year, MONDAY, MONDAY + 2 * WEEK)


@pytest.fixture(scope="module")
def steps(fortnight: Year) -> list[Step]:
    """All that happens about two weeks of flights."""
    return list(Timeline(fortnight, seed=7).steps(MONDAY - DAY, MONDAY + 4 * WEEK))


@pytest.fixture(scope="module")
def reports(steps: list[Step]) -> list[Report]:
    """Every report about two weeks of flights."""
    return [report for step in steps for report in step.reports]


def test_each_flight_that_lands_is_reported_and_no_other(fortnight: Year, reports: list[Report]) -> None:
    landed = fortnight.flights[fortnight.flights["arrived_at"].notna()]

    assert {report.entity for report in reports} == set(landed["flight_id"])
    assert len(landed) < len(fortnight.flights)


def test_the_highest_revision_tells_the_truth(fortnight: Year, reports: list[Report]) -> None:
    truth = dict(zip(fortnight.flights["flight_id"], fortnight.flights["arrival_delay_min"], strict=True))
    last = {report.entity: report.delay_min for report in sorted(reports, key=lambda report: report.revision)}

    assert last == {entity: truth[entity] for entity in last}


def test_nothing_is_known_before_it_happened_or_sent_before_it_is_known(fortnight: Year, reports: list[Report]) -> None:
    landed = dict(zip(fortnight.flights["flight_id"], fortnight.flights["arrived_at"], strict=True))

    assert all(landed[report.entity] <= report.known_at <= report.due for report in reports)


def test_some_reports_are_late_some_come_twice_and_some_are_corrected(fortnight: Year, reports: list[Report]) -> None:
    """2 % up to three days late, 1 % twice, 0.5 % wrong at first and right two hours later."""
    landed = dict(zip(fortnight.flights["flight_id"], fortnight.flights["arrived_at"], strict=True))
    first = {report.event_id: report for report in reversed(reports)}
    sendings = Counter(report.event_id for report in reports)
    plain = [report for report in first.values() if report.revision == 0]
    late = [report for report in plain if report.known_at - landed[report.entity] > timedelta(minutes=30)]
    corrections = {report.entity: report for report in first.values() if report.revision == 1}

    assert 0.015 < len(late) / len(plain) < 0.025
    assert max(report.known_at - landed[report.entity] for report in plain) < timedelta(days=3, hours=1)
    assert 0.007 < sum(count == 2 for count in sendings.values()) / len(plain) < 0.013
    assert max(sendings.values()) == 2
    assert 0.003 < len(corrections) / len(plain) < 0.007
    for entity, correction in corrections.items():
        wrong = first[f"landed-{entity}-0"]
        assert correction.known_at - wrong.known_at == REVISED_AFTER
        assert abs(correction.delay_min - wrong.delay_min) == 20


def test_a_repetition_says_the_same_and_comes_later(reports: list[Report]) -> None:
    by_event: dict[str, list[Report]] = {}
    for report in reports:
        by_event.setdefault(report.event_id, []).append(report)

    for once, *again in by_event.values():
        for other in again:
            assert report_item(other, "p") == report_item(once, "p")
            assert other.due > once.due


def test_how_a_flight_is_reported_depends_on_that_flight_and_the_seed_alone(fortnight: Year) -> None:
    """When the year is continued, what was reported of the flights before must not change."""
    fewer = replace(fortnight, flights=fortnight.flights.iloc[1000:].reset_index(drop=True))
    known = set(fewer.flights["flight_id"])

    def reports(year: Year) -> list[Report]:
        steps = Timeline(year, seed=7).steps(MONDAY - DAY, MONDAY + 4 * WEEK)
        return [report for step in steps for report in step.reports if report.entity in known]

    assert reports(fewer) == reports(fortnight)


def test_the_same_seed_gives_the_same_timeline_and_another_one_another(fortnight: Year) -> None:
    once, again, other = (list(Timeline(fortnight, seed).steps(MONDAY, MONDAY + DAY)) for seed in (7, 7, 8))

    assert once == again
    assert [fact for step in once for fact in step.facts] == [fact for step in other for fact in step.facts]
    assert [report for step in once for report in step.reports] != [report for step in other for report in step.reports]


def test_a_span_in_two_parts_is_the_span(fortnight: Year) -> None:
    """(after, until]: nothing is played twice, nothing is left out, and time goes forward."""
    timeline = Timeline(fortnight, seed=7)
    middle = MONDAY + timedelta(hours=31, minutes=30)
    whole = list(timeline.steps(MONDAY, MONDAY + 2 * DAY))
    parts = [*timeline.steps(MONDAY, middle), *timeline.steps(middle, MONDAY + 2 * DAY)]

    assert parts == whole
    assert [step.at for step in whole] == sorted({step.at for step in whole})
    assert all(MONDAY < step.at <= MONDAY + 2 * DAY for step in whole)


def test_each_flight_is_asked_about_once_an_hour_before_it_is_due(fortnight: Year, steps: list[Step]) -> None:
    due = dict(zip(fortnight.flights["flight_id"], fortnight.flights["scheduled_departure"], strict=True))
    asked = [(entity, step.at) for step in steps for entity, _ in step.questions]

    assert len(asked) == len(due)
    assert all(due[entity] - at == timedelta(hours=1) for entity, at in asked)


def test_a_warm_up_brings_the_facts_of_the_last_day_and_a_half_and_no_question(fortnight: Year) -> None:
    until = MONDAY + 4 * DAY
    facts = Timeline(fortnight, seed=7).warm_up(until)

    assert facts
    assert all(until - timedelta(hours=36) < fact.at <= until for fact in facts)
    assert [fact.at for fact in facts] == sorted(fact.at for fact in facts)


# --- The journal ------------------------------------------------------------------------------------------------------------------


def an_attempt(kind: str = "predict", status: int = 200, ids: tuple[str, ...] = ("p1",), **changes: Any) -> Attempt:
    usual: dict[str, Any] = {"at": MONDAY, "rows": len(ids) or 1, "latency_us": 1000, "reason": ""}
    return Attempt(kind=kind, status=status, ids=ids, **(usual | changes))


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(tmp_path / "replay.db")
    yield opened
    opened.close()


def test_a_new_journal_knows_nothing(journal: Journal) -> None:
    assert journal.cursor() is None
    assert journal.open_questions() == {}
    assert journal.tally("predict").attempts == 0
    assert not journal.unfinished()


def test_the_tally_counts_attempts_rows_and_failures_of_one_kind(journal: Journal) -> None:
    for latency_ms in range(1, 101):
        journal.add(an_attempt(ids=("a", "b"), latency_us=latency_ms * 1000))
    journal.add(an_attempt(status=503, ids=(), latency_us=500, reason="disk full"))
    journal.add(an_attempt(status=0, ids=(), latency_us=500, reason="ConnectionRefusedError"))
    journal.add(an_attempt("feedback", status=202, ids=("e1",)))
    journal.flush()
    tally = journal.tally("predict")

    assert (tally.attempts, tally.rows, tally.failed) == (102, 202, 2)
    assert tally.p50_ms == pytest.approx(50, abs=1)
    assert tally.p99_ms == pytest.approx(99, abs=1)
    assert (journal.tally("feedback").attempts, journal.tally("feedback").failed) == (1, 0)
    assert [status for _, _, status, _ in journal.failures()] == [503, 0]


def test_ids_are_those_that_were_answered_in_order(journal: Journal) -> None:
    for attempt in (an_attempt(ids=("a", "b")), an_attempt(status=500, ids=()), an_attempt(ids=("c",)), an_attempt("probe", ids=("d",))):
        journal.add(attempt)
    journal.flush()

    assert journal.ids("predict") == ["a", "b", "c"]
    assert journal.ids("probe") == ["d"]


def test_cursor_and_open_questions_are_written_with_the_attempts(journal: Journal, tmp_path: Path) -> None:
    journal.begin()
    journal.add(an_attempt())
    journal.flush(cursor=MONDAY, open_questions={"flight": ("p1", MONDAY)})
    again = Journal(tmp_path / "replay.db")

    assert (again.cursor(), again.open_questions()) == (MONDAY, {"flight": ("p1", MONDAY)})
    assert again.ids("predict") == ["p1"]
    assert not again.unfinished()
    again.close()


def test_a_replay_that_began_and_did_not_end_is_unfinished(journal: Journal) -> None:
    journal.begin()
    journal.begin()
    journal.add(an_attempt())
    journal.flush()

    assert journal.unfinished()


def test_attempts_of_long_ago_can_be_forgotten_and_nothing_else(journal: Journal) -> None:
    for days in (0, 1, 2):
        journal.add(Attempt("predict", SCHEDULED + days * DAY, 1, 200, 100, (f"p-{days}",)))
    journal.flush(cursor=SCHEDULED, open_questions={"A": ("p-0", SCHEDULED)})

    assert journal.forget(SCHEDULED + DAY) == 1

    assert journal.ids("predict") == ["p-1", "p-2"]
    assert (journal.cursor(), journal.open_questions()) == (SCHEDULED, {"A": ("p-0", SCHEDULED)})


def test_a_killed_replay_leaves_what_was_flushed_and_its_cursor(tmp_path: Path) -> None:
    code = f"""
import os, signal
from datetime import UTC, datetime
from pathlib import Path
from mlops_lab.replay.journal import Attempt, Journal
journal, at = Journal(Path({str(tmp_path / "replay.db")!r})), datetime(2013, 4, 1, tzinfo=UTC)
for name in ("a", "b"):
    journal.begin()
    journal.add(Attempt("predict", at, 1, 200, 900, (name,)))
    journal.flush(cursor=at, open_questions={{name: (name, at)}})
journal.begin()
journal.add(Attempt("predict", at, 1, 200, 900, ("lost",)))
os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", code], env=os.environ, timeout=60)
    journal = Journal(tmp_path / "replay.db")

    assert killed.returncode == -signal.SIGKILL
    assert journal.ids("predict") == ["a", "b"]
    assert journal.cursor() == MONDAY
    assert journal.open_questions() == {"b": ("b", MONDAY)}
    assert journal.unfinished()
    journal.close()


def test_a_flush_that_fails_leaves_nothing_and_the_next_one_writes_all(journal: Journal, tmp_path: Path) -> None:
    disk = sqlite3.connect(tmp_path / "replay.db", isolation_level=None)
    disk.execute("CREATE TRIGGER full BEFORE INSERT ON cursor BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    journal.begin()
    journal.add(an_attempt())
    with pytest.raises(StoreUnreachable, match="disk full"):
        journal.flush(cursor=MONDAY)
    assert journal.ids("predict") == []
    assert journal.unfinished()

    disk.execute("DROP TRIGGER full")
    journal.flush(cursor=MONDAY)
    disk.close()
    assert journal.ids("predict") == ["p1"]
    assert journal.cursor() == MONDAY


def test_a_journal_that_cannot_be_opened_says_where(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StoreUnreachable, match=r"replay\.db"):
        Journal(tmp_path / "file" / "replay.db")


# --- The client -------------------------------------------------------------------------------------------------------------------

Handle = Callable[[asyncio.StreamWriter, bytes], Awaitable[None]]


@dataclass
class Server:
    """A service on a free port that counts the requests it reads; a test says what it does with each."""

    handle: Handle
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    port: int = 0

    async def __aenter__(self) -> "Server":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next((int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), 0)
                self.requests.append(head + await reader.readexactly(length))
                await self.handle(writer, self.requests[-1])
                if writer.is_closing():
                    return
        except (EOFError, ConnectionError):
            pass
        finally:
            writer.close()


async def answer_ok(writer: asyncio.StreamWriter, _: bytes) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")


async def hang_up(writer: asyncio.StreamWriter, _: bytes) -> None:
    writer.close()


async def answer_half(writer: asyncio.StreamWriter, _: bytes) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this")
    writer.close()


async def answer_without_length(writer: asyncio.StreamWriter, _: bytes) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\nhow long?")


async def answer_nonsense(writer: asyncio.StreamWriter, _: bytes) -> None:
    writer.write(b"220 mail ready\r\n\r\n")


async def answer_endless_head(writer: asyncio.StreamWriter, _: bytes) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000 + b"\r\n\r\n")


async def answer_nothing(writer: asyncio.StreamWriter, _: bytes) -> None:
    return


def test_an_answer_comes_with_status_body_and_latency() -> None:
    async def play() -> None:
        async with Server(answer_ok) as server:
            client = Client("127.0.0.1", server.port, token="secret")
            found = [await client.post("/v1/predict", b'{"items":[]}'), await client.get("/v1/model")]
            client.close()

        assert [(answer.status, answer.body) for answer in found] == [(200, b"ok")] * 2
        assert all(answer.latency_us > 0 for answer in found)
        posted, got = server.requests
        assert posted.startswith(b"POST /v1/predict HTTP/1.1\r\n")
        assert b"Authorization: Bearer secret\r\n" in posted
        assert posted.endswith(b'\r\n\r\n{"items":[]}')
        assert got.startswith(b"GET /v1/model HTTP/1.1\r\n")

    asyncio.run(play())


def test_connections_are_kept_and_shared() -> None:
    """Many requests at once go over the connections there are, and each gets its own answer."""

    async def echo(writer: asyncio.StreamWriter, request: bytes) -> None:
        body = request.split(b"\r\n\r\n")[1]
        await asyncio.sleep(0)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    async def play() -> None:
        async with Server(echo) as server:
            client = Client("127.0.0.1", server.port, connections=3)
            found = await asyncio.gather(*(client.post("/", str(i).encode()) for i in range(60)))
            client.close()

        assert [answer.body for answer in found] == [str(i).encode() for i in range(60)]
        assert server.connections <= 3

    asyncio.run(play())


@pytest.mark.parametrize("handle", [hang_up, answer_half, answer_without_length, answer_nonsense, answer_endless_head, answer_nothing])
def test_what_goes_wrong_is_in_the_answer_and_is_not_tried_again(handle: Handle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "TIMEOUT_S", 0.2)

    async def play() -> None:
        async with Server(answer_ok) as server:
            client = Client("127.0.0.1", server.port, connections=1)
            assert (await client.post("/v1/predict", b"{}")).status == 200
            server.handle = handle
            found = await client.post("/v1/predict", b"{}")
            assert (found.status, len(server.requests)) == (0, 2)
            assert found.body  # the reason
            server.handle = answer_ok
            assert (await client.post("/v1/predict", b"{}")).status == 200
            assert len(server.requests) == 3
            client.close()

    asyncio.run(play())


def test_a_refused_connection_is_an_attempt_without_answer() -> None:
    async def play() -> None:
        async with Server(answer_ok) as server:
            port = server.port
        found = await Client("127.0.0.1", port).get("/v1/model")

        assert found.status == 0
        assert b"ConnectionRefusedError" in found.body

    asyncio.run(play())


def test_an_answer_that_closes_the_connection_is_whole_and_the_next_request_opens_another() -> None:
    async def answer_and_close(writer: asyncio.StreamWriter, _: bytes) -> None:
        writer.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbusy")
        writer.close()

    async def play() -> None:
        async with Server(answer_and_close) as server:
            client = Client("127.0.0.1", server.port, connections=1)
            found = [await client.get("/"), await client.get("/")]

        assert [(answer.status, answer.body) for answer in found] == [(503, b"busy")] * 2
        assert server.connections == 2

    asyncio.run(play())


def test_a_connection_that_nobody_used_for_a_while_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The service may be closing it at this very moment, and the request would be lost with it."""
    monkeypatch.setattr(client_module, "IDLE_S", -1.0)

    async def play() -> None:
        async with Server(answer_ok) as server:
            client = Client("127.0.0.1", server.port, connections=1)
            assert [(await client.get("/")).status for _ in range(3)] == [200] * 3
            client.close()
        assert server.connections == 3

    asyncio.run(play())


def test_the_answer_to_a_request_that_was_given_up_is_never_taken_for_the_next() -> None:
    async def slow_first(writer: asyncio.StreamWriter, request: bytes) -> None:
        body = request.split(b"\r\n\r\n")[1]
        if body == b"first":
            await asyncio.sleep(0.05)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    async def play() -> None:
        async with Server(slow_first) as server:
            client = Client("127.0.0.1", server.port, connections=1)
            await client.post("/", b"before")
            given_up = asyncio.create_task(client.post("/", b"first"))
            while len(server.requests) < 2:
                await asyncio.sleep(0.005)
            given_up.cancel()
            await asyncio.sleep(0.1)
            found = await client.post("/", b"second")
            client.close()

        assert found.body == b"second"

    asyncio.run(play())


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


# --- Faults that are on -----------------------------------------------------------------------------------------------------------


def names(faults: Sequence[Any]) -> list[str]:
    return [one.name for one in faults]


def test_a_fault_is_on_until_it_is_cleared_and_its_past_stays(tmp_path: Path) -> None:
    Faults(tmp_path).start("concept-shift", MONDAY)
    Faults(tmp_path).start("concept-shift", MONDAY + DAY)
    Faults(tmp_path).start("null-burst", MONDAY + DAY)

    assert Faults(tmp_path).clear("concept-shift", at=MONDAY + WEEK) == ["concept-shift"]
    assert names(Faults(tmp_path).active()) == ["null-burst"]
    assert [(one.name, one.since, one.until) for one in Faults(tmp_path).all()] == [
        ("concept-shift", MONDAY, MONDAY + WEEK),
        ("null-burst", MONDAY + DAY, None),
    ]


def test_a_fault_that_nobody_knows_is_refused_with_the_near_miss(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="concept-shift"):
        Faults(tmp_path).start("concept-shfit", MONDAY)
    assert Faults(tmp_path).all() == []


def test_a_fault_that_is_cleared_before_it_began_never_was(tmp_path: Path) -> None:
    Faults(tmp_path).start("unit-change", MONDAY + DAY)

    assert Faults(tmp_path).clear(at=MONDAY) == ["unit-change"]
    assert Faults(tmp_path).all() == []
