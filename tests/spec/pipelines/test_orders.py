"""The worker's orders: one that fails or cannot be read is on record and holds up nobody."""

import sqlite3
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import pytest

from mlops_lab.bootstrap.identities import APPROVER, OPERATOR
from mlops_lab.events import CONTROL, Message
from mlops_lab.events.dead import dead_letters
from mlops_lab.events.on_sqlite import SqliteBus
from mlops_lab.governance.approval import read_token
from mlops_lab.pipelines import handlers
from mlops_lab.pipelines.orders import PromoteModel
from mlops_lab.pipelines.worker import settled
from mlops_lab.settings import Settings
from parcel_builders import week
from pipeline_builders import NOW, SmallLab, a_training, deliver, give, served, training_flow, work

AT = week(11).start


def unchecked(lab: SmallLab) -> SqliteBus:
    """The home's bus as anybody may write to it."""
    return SqliteBus(lab.home / "bus.db")


def test_an_order_on_which_the_platform_itself_fails_is_recorded_and_does_not_end_the_worker(
    lab: SmallLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Delivered again it would end the worker again, and nothing behind it would ever be done."""
    monkeypatch.setattr(handlers, "promote", lambda *_: {}["a fault of ours"])
    lab.bus.publish(CONTROL, [PromoteModel("broken", AT, OPERATOR, 1).to_message(lab.model)])
    give(lab, replace(deliver(lab, week(7)), at=AT))
    work(lab)

    assert [fact.subject for fact in lab.ledger.facts("order_failed")] == ["broken"]
    assert "KeyError" in lab.ledger.facts("order_failed")[0].body["what"]
    assert lab.snapshots.all()[-1].batch == week(7).id


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (Message("IngestBatch", AT, "2013-W07", {"by": OPERATOR, "folder": 7, "window": "2013-W07"}, id="bad"), "malformed_data"),
        (Message("IngestBatch", AT, "2013-W07", {"by": OPERATOR, "folder": "x", "window": "w"}, id="bad", version=2), "unknown_version"),
        (Message("TrainModle", AT, "parcels", {"by": OPERATOR}, id="bad"), "unknown_type"),
        (Message("ClockReached", NOW + timedelta(days=1), "clock", {}, id="bad"), "from_the_future"),
    ],
)
def test_a_control_message_that_is_refused_becomes_one_dead_letter_and_the_next_is_worked_on(
    lab: SmallLab, message: Message, reason: str
) -> None:
    unchecked(lab).publish(CONTROL, [message])
    give(lab, replace(deliver(lab, week(7)), at=AT))
    work(lab)

    [(letter, _)] = dead_letters(lab.bus, CONTROL)
    assert (letter.reason, letter.event()) == (reason, message)
    assert [fact.subject for fact in lab.ledger.facts("order_failed")] == (["bad"] if message.type == "IngestBatch" else [])
    assert lab.snapshots.all()[-1].batch == week(7).id
    assert settled(lab)


def test_a_control_message_that_cannot_be_read_becomes_a_dead_letter_and_the_next_is_worked_on(lab: SmallLab) -> None:
    unchecked(lab).publish(CONTROL, [Message("ClockReached", AT, "clock", {}, id="spoilt")])
    with sqlite3.connect(lab.home / "bus.db") as db:
        db.execute("UPDATE message SET data = '{' WHERE id = 'spoilt'")
    give(lab, replace(deliver(lab, week(7)), at=AT))
    work(lab)

    assert [lying.letter.reason for lying in dead_letters(lab.bus, CONTROL)] == ["unreadable"]
    assert lab.snapshots.all()[-1].batch == week(7).id
    assert settled(lab)


def test_an_operators_order_promotes_what_somebody_else_approved(lab: SmallLab) -> None:
    served(lab, 7, 8, 9, 10, turned=True)
    judgement, version = training_flow(a_training(AT, "curiosity"), lab)
    assert judgement.outcome == "promote"
    order = PromoteModel("promote-2", AT, OPERATOR, version.number)
    give(lab, order)
    work(lab)
    assert lab.ledger.facts("order_failed")[-1].subject == "promote-2"  # nobody approved it yet
    lab.approvals.approve(version.number, read_token(lab.keys / f"{APPROVER}.token"), "better", AT)
    give(lab, replace(order, id="promote-2-again"))
    work(lab)

    assert lab.ledger.champion().version == version.number


def test_work_that_appears_between_two_looks_is_not_overlooked() -> None:
    """A worker may publish what follows and commit what led to it while somebody asks whether all is done."""

    class Busy:
        last = 5

        def committed(self, group: str, topic: str) -> int:
            done, self.last = self.last, self.last + 1
            return done

        def head(self, topic: str) -> int:
            return self.last

        def partitions(self, topic: str) -> int:
            return 0

        def waiting(self) -> dict[str, int]:
            return {}

    busy = SimpleNamespace(bus=Busy(), outbox=SimpleNamespace(pending=lambda limit: []), settings=Settings())
    assert not settled(busy)  # type: ignore[arg-type]
