"""Orders whose runs the server lost or ended: given again while there is hope, failed with a reason where there is none."""

from datetime import UTC, datetime
from typing import Any

import pytest

from handing_over_builders import DRILL, Server, a_run, changes
from mlops_lab.bootstrap import Lab
from mlops_lab.errors import OrchestratorRefused
from mlops_lab.pipelines import handing_over
from mlops_lab.pipelines.handing_over import HANDING_OVER, has_open_orders
from mlops_lab.pipelines.handlers import handle
from mlops_lab.pipelines.ordered import follow_up
from mlops_lab.pipelines.prefect_api import ATTEMPTS, PrefectApi, parameters_of
from mlops_lab.pipelines.silence import Silence


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
