"""Trainings that a Prefect server carries out: how they are handed over, and the one worker that does it."""

import logging
from dataclasses import replace

from mlops_lab.bootstrap import Lab
from mlops_lab.bootstrap.identities import TRAINER
from mlops_lab.errors import LabError, OrchestratorRefused
from mlops_lab.events import Message
from mlops_lab.pipelines.handlers import TRAINING, WATCHING, keep_failure, recorded_order, run_promotion, ship_and_prepare
from mlops_lab.pipelines.ordered import follow_up
from mlops_lab.pipelines.orders import PromoteModel, TrainModel, order_id
from mlops_lab.pipelines.prefect_api import SKILL_LOST, TRAIN, PrefectApi, parameters_of
from mlops_lab.pipelines.silence import Silence
from mlops_lab.registry.open_orders import FAILED, open_orders
from mlops_lab.telemetry import current_traceparent

_SILENCE = Silence()
"""What this process heard of runs; by their ids, so whose lab they are of does not matter."""

log = logging.getLogger(__name__)


def start_training(message: Message, lab: Lab) -> None:
    """Have the server run the training deployment. The order is on the record first, so whoever waits for it knows; the server takes the
    same order twice as one run."""
    order = recorded_order(message, lab)
    PrefectApi.of_environment(lab.settings.orchestration.timeout_s).run_deployment(
        TRAIN, parameters_of(order, current_traceparent() or message.traceparent), order.id
    )


def announce_lost_skill(message: Message, lab: Lab) -> None:
    """Skill was lost: tell the server, whose automation starts the training. Nothing here calls it."""
    order = TrainModel(order_id("train-retrain", message.data["window"]), message.at, TRAINER, origin="retrain")
    told = order.to_message(lab.model)
    recorded_order(told, lab)
    payload = parameters_of(order, current_traceparent() or message.traceparent) | {"window": message.data["window"]}
    try:
        PrefectApi.of_environment(lab.settings.orchestration.timeout_s).emit(SKILL_LOST, message.id, lab.model, payload, message.at)
    except OrchestratorRefused as error:
        keep_failure(FAILED, told, error, lab)
        raise


def prepare_and_follow_up(lab: Lab) -> None:
    """What the watcher does while nothing is asked for, and what became of the orders that a server has."""
    ship_and_prepare(lab)
    try:
        follow_up(lab, _SILENCE)
    except LabError as error:  # asked again in a few seconds; a worker that is told to stop does not wait for a server
        log.error("orders.unknown", extra={"why": error.what, "next": error.next_step})


HANDING_OVER = replace(
    WATCHING,
    orders={**WATCHING.orders, TrainModel.TYPE: start_training, PromoteModel.TYPE: run_promotion},
    facts={**WATCHING.facts, **TRAINING.facts, "SkillLost": announce_lost_skill},
    idle=prepare_and_follow_up,
)
"""The one worker where trainings are deployments of a Prefect server."""


def has_open_orders(lab: Lab) -> bool:
    """Whether a training was ordered that neither ended nor failed."""
    return bool(open_orders(lab.ledger))
