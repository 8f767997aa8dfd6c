"""Which order follows which event: here the loop closes. Orders do work and may fail; facts only lead to orders or to bookkeeping."""

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlops_lab.bootstrap import Lab
from mlops_lab.bootstrap.identities import PLATFORM, TRAINER
from mlops_lab.clock import from_iso, iso
from mlops_lab.errors import LabError, OrchestratorUnreachable, ServiceError
from mlops_lab.events import CONTROL, Message
from mlops_lab.monitoring.window import LABEL_GRACE, Window
from mlops_lab.pipelines.captured import first_moment
from mlops_lab.pipelines.feedback import take_in_feedback
from mlops_lab.pipelines.guard import CanaryGuard
from mlops_lab.pipelines.ingest import ingest
from mlops_lab.pipelines.orders import IngestBatch, PromoteModel, TrainModel, order_id
from mlops_lab.pipelines.overdue import flag_overdue
from mlops_lab.pipelines.pins import take_in_pins
from mlops_lab.pipelines.promote import approve_by_policy, project_alias, promote, roll_back
from mlops_lab.pipelines.restate import restate_recent
from mlops_lab.pipelines.ship import ship
from mlops_lab.pipelines.traced import fact_followed, order_carried_out
from mlops_lab.pipelines.watch import watch
from mlops_lab.registry.open_orders import DONE, FAILED, ORDER

if TYPE_CHECKING:
    from mlops_lab.registry.judge import Judgement
    from mlops_lab.registry.version import ModelVersion

Handler = Callable[[Message, Lab], None]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Duty:
    """What one worker process does.

    Attributes:
        name: Of the process and of its consumer group.
        orders: Handler by type of order. Orders do work and may fail.
        facts: Handler by type of fact.
        ahead: Done once, before the first message: what would make the first order slow.
        idle: Done every few seconds while there is nothing else to do.
        guard: Gives what is done every two seconds, between messages too: what must not wait until there is nothing else to do.
    """

    name: str
    orders: Mapping[str, Handler]
    facts: Mapping[str, Handler]
    ahead: Callable[[Lab], object] | None = None
    idle: Callable[[Lab], object] | None = None
    guard: Callable[[Lab], Callable[[], object]] | None = None


def handle(message: Message, lab: Lab, duty: Duty) -> None:
    """Do what a duty asks for after one control message. What it has no handler for is for others.

    A failed order is recorded with its reason and is not tried again; the next one is not held up by it. What a fact leads to is tried
    again only where a service did not answer; otherwise it is recorded too, or one fact that was overtaken would stop all others.
    """
    kind = FAILED if message.type in duty.orders else "fact_failed"
    handler = duty.orders.get(message.type) or duty.facts.get(message.type)
    if handler is None:
        return
    try:
        if message.type in duty.orders:
            with order_carried_out(message, lab):
                handler(message, lab)
        elif message.traceparent:
            with fact_followed(message, lab):
                handler(message, lab)
        else:
            handler(message, lab)
    except LabError as error:
        if isinstance(error, OrchestratorUnreachable) or (kind == "fact_failed" and isinstance(error, ServiceError)):
            raise
        log.error("worker.failed", extra={"kind": kind, "message_id": message.id, "why": error.what})
        keep_failure(kind, message, error, lab)
    except Exception as error:  # a fault of ours: unrecorded, it would end the worker each time the message is delivered again
        log.exception("worker.broken", extra={"kind": kind, "message_id": message.id})
        unexpected = LabError(f"{type(error).__name__}: {error}", "read the worker's log: this is a fault of the platform.")
        keep_failure(kind, message, unexpected, lab)


def refuse(message: Message, error: LabError, lab: Lab, duty: Duty) -> None:
    """An order that is not what its type says cannot be carried out: who waits for it finds its failure where all others are."""
    if message.type in duty.orders:
        keep_failure(FAILED, message, error, lab)


def keep_failure(kind: str, message: Message, error: LabError, lab: Lab) -> None:
    """Record why a message came to nothing, with what to do next."""
    body = {"type": message.type, "what": error.what, "next": error.next_step}
    lab.ledger.record(kind, message.id, body, at=message.at, by=PLATFORM, why=error.what)


def close_windows(message: Message, lab: Lab) -> None:
    """Event time has advanced: decide every window that has closed by now, in order, from the first that has answers. Then look again at
    those decided lately, whose labels may have changed since."""
    ship(lab)
    take_in_feedback(lab)
    decided = [record["window"] for record in lab.ledger.decisions()]
    window = Window.of_week(decided[-1]).before(-1) if decided else first_window(lab)
    while window is not None and window.end + LABEL_GRACE <= message.at:
        watch(window, lab)
        window = window.before(-1)
    restate_recent(message.at, lab)


def first_window(lab: Lab) -> Window | None:
    """The window of the first live answer; None where nothing was asked yet."""
    moment = first_moment(lab)
    return None if moment is None else Window.containing(moment)


def order_retraining(message: Message, lab: Lab) -> None:
    """Skill was lost: order a challenger. The id is the window's, so one window orders one training."""
    order = TrainModel(order_id("train-retrain", message.data["window"]), message.at, TRAINER, origin="retrain")
    lab.bus.publish(CONTROL, [order.to_message(lab.model)])


def give_back(message: Message, lab: Lab) -> None:
    """The champion on probation is worse than the one it replaced: take the traffic away from it."""
    roll_back(message.data["version"], message.at, message.data["because"], lab)


def page(message: Message, lab: Lab) -> None:
    """A data incident: somebody has to look. Recorded as a page; nothing is trained."""
    lab.ledger.record(
        "page", message.data["window"], {"because": message.data["because"]}, at=message.at, by=PLATFORM, why="a broken feed needs a person"
    )


def run_training(message: Message, lab: Lab) -> None:
    """Carry out a training order as a flow of this process."""
    from mlops_lab.pipelines.on_prefect import run_training_flow

    carry_out(message, lab, run_training_flow)


def carry_out(message: Message, lab: Lab, train: Callable[[TrainModel, Lab], "tuple[Judgement, ModelVersion]"]) -> None:
    """Carry out a training order; a retraining that the judge is for is approved by the policy and promoted."""
    order = recorded_order(message, lab)
    judgement, version = train(order, lab)
    if judgement.outcome == "promote" and order.origin == "retrain":
        approve_by_policy(version.number, order.at, lab)
        promote(version.number, order.at, PLATFORM, lab)
    lab.ledger.record(DONE, order.id, {"version": version.number}, at=order.at, by=PLATFORM, why=judgement.outcome)
    project_alias(lab)


def recorded_order(message: Message, lab: Lab) -> TrainModel:
    """The training order that a message is, on the record: whoever waits for it knows of it."""
    order = TrainModel.from_message(message)
    assert isinstance(order, TrainModel)
    body = {"type": order.TYPE, "origin": order.origin, "at": iso(order.at)}
    if order.flip_share:
        body["flip_share"] = str(order.flip_share)
    lab.ledger.record(ORDER, order.id, body, at=order.at, by=order.by, why=order.origin)
    return order


def run_ingest(message: Message, lab: Lab) -> None:
    order = IngestBatch.from_message(message)
    assert isinstance(order, IngestBatch)
    ingest(order, lab)


def run_promotion(message: Message, lab: Lab) -> None:
    order = PromoteModel.from_message(message)
    assert isinstance(order, PromoteModel)
    promote(order.version, order.at, order.by, lab)


def follow_ledger(message: Message, lab: Lab) -> None:
    """The ledger changed: bring MLflow's alias and tags in line."""
    project_alias(lab)


def import_ahead(lab: Lab) -> None:
    """Import the frameworks and open the catalog before the first order needs them."""
    from mlops_lab.pipelines import on_prefect  # noqa: F401

    assert lab.trainer
    lab.catalog.versions()


def ship_and_prepare(lab: Lab) -> None:
    """While nothing is asked for: take in local pins, move logs and reported outcomes into the tables, import what the next watch needs."""
    with suppress(LabError):  # said already; the logs do not wait for it
        take_in_pins(lab)
    ship(lab)
    take_in_feedback(lab)
    if decisions := lab.ledger.decisions():
        flag_overdue(from_iso(decisions[-1]["at"]), lab)
    lab.drift.prepare()


WATCHING = Duty(
    "watcher",
    orders={IngestBatch.TYPE: run_ingest},
    facts={"ClockReached": close_windows, "SkillLost": order_retraining, "ChampionDegraded": give_back, "DataIncidentFound": page},
    idle=ship_and_prepare,
    guard=lambda lab: CanaryGuard(lab).step,
)
TRAINING = Duty(
    "trainer",
    orders={TrainModel.TYPE: run_training, PromoteModel.TYPE: run_promotion},
    facts={"ModelPromoted": follow_ledger, "ModelRolledBack": follow_ledger, "OverrideForced": follow_ledger},
    ahead=import_ahead,
)
DUTIES: Mapping[str, Duty] = {duty.name: duty for duty in (WATCHING, TRAINING)}
"""The two workers. Watching goes on while a training runs, and only the trainer carries the weight of its frameworks."""
