"""Where trainings are deployments of a Prefect server: what it is told, that nothing is lost when it is away, and when all is done."""

import json
import socket
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from mlops_lab.bootstrap import Lab
from mlops_lab.bootstrap.identities import PLATFORM
from mlops_lab.cli.output import Output
from mlops_lab.cli.train import carried_out
from mlops_lab.errors import AuditBroken, OrchestratorRefused, OrchestratorUnreachable, SettingsWrong, TrainingFailed
from mlops_lab.events import CONTROL, Message
from mlops_lab.pipelines import handing_over
from mlops_lab.pipelines.handing_over import HANDING_OVER, has_open_orders
from mlops_lab.pipelines.handlers import handle
from mlops_lab.pipelines.ordered import follow_up
from mlops_lab.pipelines.orders import TrainModel
from mlops_lab.pipelines.prefect_api import ATTEMPTS, BEGUN_WITHIN_S, SILENCE_S, SKILL_LOST, PrefectApi, parameters_of
from mlops_lab.pipelines.silence import SILENT_FOR, Silence
from mlops_lab.pipelines.worker import Worker, duties, settled
from mlops_lab.settings import OrchestrationSettings, Settings

AT = datetime(2013, 7, 1, 12, tzinfo=UTC)
LOST = Message(
    "SkillLost", AT, "flight-delay", {"window": "2013-W26", "version": 1, "because": "unexplained loss in 3 of 4 weeks"}, id="lost-2013-W26"
)

CLOCK = Message("ClockReached", AT, "clock", {}, id="clock-20130701T1200Z")


class Server(ThreadingHTTPServer):
    """Takes what a Prefect server takes, and keeps it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[str, str, Any]] = []
        self.down = False
        self.refuses = 0
        self.runs: list[dict[str, Any]] = []
        self.heartbeats: list[datetime] = []


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self._answer("GET", None)

    def do_POST(self) -> None:
        self._answer("POST", json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _answer(self, method: str, body: Any) -> None:
        self.server.asked.append((method, self.path, body))
        self.send_response(self.server.refuses or (503 if self.server.down else 200))
        self.end_headers()
        self.wfile.write(json.dumps(self._found(body)).encode())

    def _found(self, body: Any) -> Any:
        if self.path.endswith("/flow_runs/filter"):
            return self.server.runs
        if self.path.endswith("/events/filter"):
            newest_first = sorted(self.server.heartbeats, reverse=body["filter"]["order"] == "DESC")
            return {"events": [{"occurred": each.isoformat()} for each in newest_first][: body["limit"]]}
        return {"id": "an-id"}

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{running.server_port}/api")
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(Settings(home=tmp_path, orchestration=OrchestrationSettings(mode="deployments", timeout_s=5)))


def test_one_worker_does_what_two_do_elsewhere(lab: Lab, tmp_path: Path) -> None:
    elsewhere = duties(Lab(Settings(home=tmp_path)))
    orders = {name for duty in elsewhere.values() for name in duty.orders}
    facts = {name for duty in elsewhere.values() for name in duty.facts}

    assert list(duties(lab)) == ["watcher"]
    assert set(HANDING_OVER.orders) == orders
    assert set(HANDING_OVER.facts) == facts


def test_lost_skill_is_told_to_the_server_and_nobody_is_called(lab: Lab, server: Server) -> None:
    handle(LOST, lab, HANDING_OVER)

    [(method, path, [event])] = server.asked
    assert (method, path) == ("POST", "/api/events")
    assert event["event"] == SKILL_LOST
    assert event["payload"]["order_id"] == "train-retrain-2013-W26"
    assert event["payload"]["at"] == "2013-07-01T12:00:00Z"
    assert event["payload"]["origin"] == "retrain"
    assert [fact.subject for fact in lab.ledger.facts("order")] == ["train-retrain-2013-W26"]


def test_the_same_loss_told_twice_is_one_event_and_one_order(lab: Lab, server: Server) -> None:
    handle(LOST, lab, HANDING_OVER)
    handle(LOST, lab, HANDING_OVER)

    assert len({body[0]["id"] for _, _, body in server.asked}) == 1
    assert len(list(lab.ledger.facts("order"))) == 1


def test_a_server_that_is_down_is_told_when_it_is_back(lab: Lab, server: Server) -> None:
    """The control message is not committed before the server has the event."""
    lab.bus.publish(CONTROL, [LOST])
    worker = Worker(lab, HANDING_OVER)
    server.down = True
    with pytest.raises(OrchestratorUnreachable):
        worker.step()
    assert lab.bus.committed("watcher", CONTROL) == 0
    assert not list(lab.ledger.facts("fact_failed"))

    server.down = False
    worker.step()

    assert lab.bus.committed("watcher", CONTROL) == 1
    assert server.asked[-1][2][0]["id"] == server.asked[0][2][0]["id"]


def test_an_order_is_a_run_of_the_deployment_once(lab: Lab, server: Server) -> None:
    order = TrainModel("train-drill-2013-W41", AT, "trainer", origin="drill", flip_share=0.4)

    handle(order.to_message(lab.model), lab, HANDING_OVER)

    (_, found, _), (_, ordered, body) = server.asked
    assert found == "/api/deployments/name/train/train"
    assert ordered == "/api/deployments/an-id/create_flow_run"
    assert body["idempotency_key"] == order.id
    assert body["parameters"]["flip_share"] == 0.4


def test_an_order_waits_for_a_server_that_is_down_instead_of_failing(lab: Lab, server: Server) -> None:
    server.down = True

    with pytest.raises(OrchestratorUnreachable):
        handle(TrainModel("train-by-hand", AT, "trainer", origin="by hand").to_message(lab.model), lab, HANDING_OVER)

    assert not list(lab.ledger.facts("order_failed"))


@pytest.mark.parametrize("given", [LOST, TrainModel("train-by-hand", AT, "trainer", origin="by hand").to_message("flight-delay")])
def test_what_the_server_refuses_fails_with_its_reason_and_holds_up_nothing(lab: Lab, server: Server, given: Message) -> None:
    lab.bus.publish(CONTROL, [given])
    server.refuses = 422

    Worker(lab, HANDING_OVER).step()

    assert lab.bus.committed("watcher", CONTROL) == 1
    [failed] = lab.ledger.facts("order_failed")
    assert "422" in failed.body["what"]
    assert not has_open_orders(lab)


@pytest.mark.parametrize(("status", "error"), [(404, OrchestratorRefused), (429, OrchestratorUnreachable), (500, OrchestratorUnreachable)])
def test_a_refusal_is_told_from_a_server_that_cannot(server: Server, status: int, error: type[Exception]) -> None:
    server.refuses = status

    with pytest.raises(error):
        PrefectApi.of_environment(5).runs()


def test_a_proxy_of_the_environment_is_not_asked(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setattr("urllib.request._opener", None)  # or one that was made before the proxy was named is used

    assert PrefectApi.of_environment(5).run_deployment("train/train", {}, "key") == "an-id"


def test_an_answer_that_is_no_http_is_a_server_out_of_reach() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"what?\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(OrchestratorUnreachable):
            PrefectApi(f"http://127.0.0.1:{listener.getsockname()[1]}/api", 5).runs()
        thread.join()


def test_whoever_waits_for_a_training_waits_on_while_the_server_does_not_answer(
    lab: Lab, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The ledger says when an order has ended; the server is only asked how it stands."""
    from mlops_lab.bootstrap import running
    from mlops_lab.cli import train

    def looked_after(settings: Settings, name: str) -> None:
        if server.asked:
            lab.ledger.record("order_done", order.id, {"version": 7}, at=AT, by=PLATFORM, why="it ended")

    order = TrainModel("train-by-hand", AT, "trainer", origin="by hand")
    server.down = True
    monkeypatch.setattr(train, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(running, "require_works", lambda settings, name: None)
    monkeypatch.setattr(running, "require_not_gone", looked_after)

    assert carried_out(Output(), order, lab) == (7, True)
    assert "the server does not answer" in capsys.readouterr().out


@pytest.mark.parametrize("end", ["order_done", "order_failed"])
def test_nothing_is_settled_before_an_order_has_ended(lab: Lab, server: Server, end: str) -> None:
    lab.bus.publish(CONTROL, [LOST])
    Worker(lab, HANDING_OVER).step()
    assert has_open_orders(lab)
    assert not settled(lab)

    lab.ledger.record(end, "train-retrain-2013-W26", {"what": "x", "next": "y", "version": 2}, at=AT, by=PLATFORM, why="it ended")

    assert settled(lab)


def test_an_order_that_ends_while_one_looks_does_not_hide_what_it_published(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run publishes the promotion and then ends its order: an outbox that was empty before says nothing about that."""

    def head(topic: str, partition: int = 0) -> int:
        found = real(topic, partition)
        if topic == CONTROL and has_open_orders(lab):
            lab.ledger.record("note", "promotion", {}, at=AT, by=PLATFORM, why="a test", emit=[CLOCK])
            lab.ledger.record("order_done", "train-x", {"version": 1}, at=AT, by=PLATFORM, why="a test")
        return found

    lab.ledger.record("order", "train-x", {"type": "TrainModel", "origin": "x"}, at=AT, by=PLATFORM, why="a test")
    real = lab.bus.head
    monkeypatch.setattr(lab.bus, "head", head)

    assert not settled(lab)


def test_a_server_that_nobody_named_is_a_setting_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)

    with pytest.raises(SettingsWrong, match="PREFECT_API_URL"):
        PrefectApi.of_environment()


def test_the_nightly_run_finds_a_row_that_the_trail_does_not_know(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trail that holds says nothing about a ledger that was edited."""
    from mlops_lab.pipelines.deployed.on_prefect import verify_audit

    lab.ledger.record("note", "a", {}, at=AT, by=PLATFORM, why="a test")
    monkeypatch.setattr(Lab, "of_environment", lambda: lab)
    verify_audit.fn()

    with closing(sqlite3.connect(lab.home / "lab.db")) as db:
        for (trigger,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            db.execute(f"DROP TRIGGER {trigger}")
        assert db.execute("UPDATE fact SET subject = 'b'").rowcount == 1
        db.commit()

    with pytest.raises(AuditBroken, match="do not agree"):
        verify_audit.fn()


def impatient(lab: Lab) -> Lab:
    return Lab(lab.settings.model_copy(update={"orchestration": lab.settings.orchestration.model_copy(update={"patience_s": 0.001})}))


def a_run(state: str, order: str = "train-x", since: datetime = AT, attempt: int = 1) -> dict[str, Any]:
    said = {"timestamp": since.isoformat(), "message": "somebody ended it"}
    return {"id": f"{order}-run", "parameters": {"order_id": order, "attempt": attempt}, "state_type": state, "state": said}


DRILL = TrainModel("train-x", AT, "trainer", origin="drill", flip_share=0.4)


@pytest.fixture
def ordered(lab: Lab, server: Server) -> Lab:
    """An order is open for longer than one is patient."""
    handle(DRILL.to_message(lab.model), lab, HANDING_OVER)
    server.asked.clear()
    return impatient(lab)


def changes(server: Server) -> list[tuple[str, Any]]:
    """What the server was asked to do, past all questions: path and body."""
    return [(path, body) for method, path, body in server.asked if method != "GET" and not path.endswith("/filter")]


@pytest.mark.parametrize(("state", "attempt"), [("CANCELLED", 1), ("FAILED", 1), ("COMPLETED", 1), ("CRASHED", ATTEMPTS)])
def test_an_order_whose_runs_are_over_has_failed_and_says_why(ordered: Lab, server: Server, state: str, attempt: int) -> None:
    server.runs = [a_run(state, attempt=attempt), a_run("RUNNING", "train-another")]

    follow_up(ordered, Silence())

    [failed] = ordered.ledger.facts("order_failed", "train-x")
    assert f"{state.lower()}: somebody ended it" in failed.body["what"]
    assert not has_open_orders(ordered)


@pytest.mark.parametrize(
    "runs",
    [
        [a_run("RUNNING")],
        [a_run("SCHEDULED"), a_run("CRASHED")],
        [a_run("CRASHED", since=datetime(2999, 1, 1, tzinfo=UTC))],  # just now: another attempt may be on its way
    ],
)
def test_an_order_with_a_run_to_come_is_waited_for(ordered: Lab, server: Server, runs: list[dict[str, Any]]) -> None:
    server.runs = runs

    follow_up(ordered, Silence())

    assert has_open_orders(ordered)
    assert changes(server) == []


def test_an_order_that_the_server_lost_is_given_again_as_it_was(ordered: Lab, server: Server) -> None:
    follow_up(ordered, Silence())

    method, path, body = server.asked[-1]
    assert (method, path) == ("POST", "/api/deployments/an-id/create_flow_run")
    assert body["idempotency_key"] == "train-x"
    assert body["parameters"] == parameters_of(DRILL)
    assert has_open_orders(ordered)


def test_a_crash_that_the_server_does_not_act_on_is_begun_again_as_often_as_it_would(ordered: Lab, server: Server) -> None:
    """Its automations act on a crash soon after its own start only when it has seen what the crash follows."""
    server.runs = [a_run("CRASHED", attempt=2), a_run("CRASHED")]

    follow_up(ordered, Silence())

    [(path, body)] = changes(server)
    assert path == "/api/deployments/an-id/create_flow_run"
    assert body["parameters"] == parameters_of(DRILL) | {"attempt": 3}
    assert body["idempotency_key"] == "train-x 3"
    assert has_open_orders(ordered)


def test_a_crash_before_a_run_that_was_cancelled_is_not_begun_again(ordered: Lab, server: Server) -> None:
    server.runs = [a_run("CANCELLED", attempt=2), a_run("CRASHED")]

    follow_up(ordered, Silence())

    assert changes(server) == []
    assert not has_open_orders(ordered)


def test_a_lost_order_that_the_server_refuses_has_failed(ordered: Lab, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: PrefectApi, *given: object) -> str:
        raise OrchestratorRefused.of("a server", "it", 404, "no such deployment")

    monkeypatch.setattr(PrefectApi, "run_deployment", refused)

    follow_up(ordered, Silence())

    assert "404" in ordered.ledger.facts("order_failed", "train-x")[0].body["what"]


def test_the_watcher_follows_up_while_it_is_idle_and_a_server_that_is_down_does_not_end_it(
    ordered: Lab, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handing_over, "ship_and_prepare", lambda lab: None)
    assert HANDING_OVER.idle is not None
    server.runs, server.down = [a_run("CANCELLED")], True
    HANDING_OVER.idle(ordered)
    assert has_open_orders(ordered)

    server.down = False
    HANDING_OVER.idle(ordered)

    assert not has_open_orders(ordered)


def test_a_young_order_is_not_asked_about(lab: Lab, server: Server) -> None:
    handle(DRILL.to_message(lab.model), lab, HANDING_OVER)
    server.asked.clear()

    follow_up(lab, Silence())

    assert not server.asked


def test_a_failed_order_that_is_repeated_says_that_it_failed_before(lab: Lab, server: Server) -> None:
    lab.ledger.record("order_failed", DRILL.id, {"what": "no memory", "next": "y"}, at=AT, by=PLATFORM, why="no memory")

    with pytest.raises(TrainingFailed, match=r"before and failed: no memory.*\n.*--origin"):
        carried_out(Output(as_json=True), DRILL, lab)

    assert not server.asked


class Hand:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self._now = datetime.now(UTC) + timedelta(days=1)

    def now(self) -> datetime:
        return self._now

    def after(self, step: timedelta) -> datetime:
        self._now += step
        return self._now


@pytest.fixture
def clock(ordered: Lab) -> Hand:
    ordered.clock = clock = Hand()
    return clock


STEP = timedelta(seconds=60)
LOOKS = SILENT_FOR // STEP + 2


@pytest.mark.parametrize(
    ("state", "says"), [("RUNNING", "No heartbeat since 2013-07-01 12:00:30Z"), ("PENDING", "Nobody began it since 2013-07-01 12:00:00Z")]
)
def test_a_run_of_which_nothing_is_heard_for_long_has_crashed(ordered: Lab, server: Server, clock: Hand, state: str, says: str) -> None:
    """It is the server that begins it again, so the order stays open."""
    server.runs, server.heartbeats = [a_run(state), a_run(state, "train-another")], [AT, AT + timedelta(seconds=30)]
    silence, asked = Silence(), []
    for _ in range(LOOKS):
        assert not asked, "too early"
        follow_up(ordered, silence)
        asked = changes(server)
        clock.after(STEP)

    [(path, body)] = asked
    assert path == "/api/flow_runs/train-x-run/set_state"
    assert (body["state"]["type"], body.get("force")) == ("CRASHED", None)
    assert says in body["state"]["message"]
    assert has_open_orders(ordered)


def test_the_server_is_asked_for_the_heartbeats_of_that_run(ordered: Lab, server: Server) -> None:
    server.runs = [a_run("RUNNING")]

    follow_up(ordered, Silence())

    assert server.asked[-1][2]["filter"]["resource"] == {"id": ["prefect.flow-run.train-x-run"]}
    assert server.asked[-1][2]["filter"]["event"] == {"name": ["prefect.flow-run.heartbeat"]}


def test_a_run_that_gives_heartbeats_is_waited_for(ordered: Lab, server: Server, clock: Hand) -> None:
    """By whatever clock: it is another one than before."""
    server.runs, silence = [a_run("RUNNING")], Silence()
    for look in range(3 * LOOKS):
        server.heartbeats = [AT + look // 5 * timedelta(seconds=30)]
        follow_up(ordered, silence)
        clock.after(STEP)

    assert changes(server) == []


def test_a_run_that_the_server_has_no_heartbeat_of_is_waited_for(ordered: Lab, server: Server, clock: Hand) -> None:
    """A worker may have been told to give none, and the server throws old events away."""
    server.runs, silence = [a_run("RUNNING")], Silence()
    for _ in range(3 * LOOKS):
        follow_up(ordered, silence)
        clock.after(STEP)

    assert changes(server) == []


def test_silence_while_the_server_was_away_does_not_count(ordered: Lab, server: Server, clock: Hand) -> None:
    """It comes back with old heartbeats of runs that live; they are heard again soon."""
    server.runs, server.heartbeats, silence = [a_run("RUNNING")], [AT], Silence()
    for _ in range(LOOKS - 2):
        follow_up(ordered, silence)
        clock.after(STEP)
    server.down = True
    for _ in range(LOOKS):
        with pytest.raises(OrchestratorUnreachable):
            follow_up(ordered, silence)
        clock.after(STEP)

    server.down = False
    follow_up(ordered, silence)

    assert changes(server) == []


def test_a_silence_is_longer_than_what_the_automations_wait_for() -> None:
    assert timedelta(seconds=2 * max(SILENCE_S, BEGUN_WITHIN_S)) < SILENT_FOR
