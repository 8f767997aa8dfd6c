"""When all is done: the ledger says that an order has ended, whatever the server does not answer."""

import pytest

from handing_over_builders import AT, DRILL, LOST, Server
from mlops_lab.bootstrap import Lab
from mlops_lab.bootstrap.identities import PLATFORM
from mlops_lab.cli.output import Output
from mlops_lab.cli.train import carried_out
from mlops_lab.errors import TrainingFailed
from mlops_lab.events import CONTROL, Message
from mlops_lab.pipelines.handing_over import HANDING_OVER, has_open_orders
from mlops_lab.pipelines.orders import TrainModel
from mlops_lab.pipelines.worker import Worker, settled
from mlops_lab.settings import Settings

CLOCK = Message("ClockReached", AT, "clock", {}, id="clock-20130701T1200Z")


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


def test_a_failed_order_that_is_repeated_says_that_it_failed_before(lab: Lab, server: Server) -> None:
    lab.ledger.record("order_failed", DRILL.id, {"what": "no memory", "next": "y"}, at=AT, by=PLATFORM, why="no memory")

    with pytest.raises(TrainingFailed, match=r"before and failed: no memory.*\n.*--origin"):
        carried_out(Output(as_json=True), DRILL, lab)

    assert not server.asked
