"""Runs that the server believes to be alive: one that is silent for long has crashed, while the server itself was there to hear it."""

from datetime import UTC, datetime, timedelta

import pytest

from handing_over_builders import AT, Server, a_run, changes
from mlops_lab.bootstrap import Lab
from mlops_lab.errors import OrchestratorUnreachable
from mlops_lab.pipelines.handing_over import has_open_orders
from mlops_lab.pipelines.ordered import follow_up
from mlops_lab.pipelines.prefect_api import BEGUN_WITHIN_S, SILENCE_S
from mlops_lab.pipelines.silence import SILENT_FOR, Silence

STEP = timedelta(seconds=60)
LOOKS = SILENT_FOR // STEP + 2


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
