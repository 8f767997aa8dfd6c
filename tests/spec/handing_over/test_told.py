"""What the server is told: each loss and each order once, now or when it is back."""

from pathlib import Path

import pytest

from handing_over_builders import AT, LOST, Server
from mlops_lab.bootstrap import Lab
from mlops_lab.errors import OrchestratorUnreachable
from mlops_lab.events import CONTROL, Message
from mlops_lab.pipelines.handing_over import HANDING_OVER, has_open_orders
from mlops_lab.pipelines.handlers import handle
from mlops_lab.pipelines.orders import TrainModel
from mlops_lab.pipelines.prefect_api import SKILL_LOST
from mlops_lab.pipelines.worker import Worker, duties
from mlops_lab.settings import Settings


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
