"""`lab train`: accepted data becomes one registered challenger."""

import os
import re
import time
from datetime import datetime
from typing import TYPE_CHECKING

import click

from mlops_lab.cli.judged import show_judgement, show_metrics
from mlops_lab.cli.opened import MOMENT, open_lab, present, runs, shown, take_in_logs
from mlops_lab.cli.output import Output
from mlops_lab.errors import OrchestratorUnreachable, ServiceNotReady, TrainingFailed, UsageError

if TYPE_CHECKING:
    from mlops_lab.bootstrap import Lab
    from mlops_lab.pipelines.orders import TrainModel

TIMEOUT_S, LOOK_EVERY_S = 900.0, 1.0
"""How long an order that a server carries out is waited for, and how often its end is asked for."""

RESERVED = ("retrain", "drill")
"""Origins that mean something to the platform: the watch orders the first, the demo the second."""


@click.command
@click.option("--at", type=MOMENT, help="Event time of the order: only what was known then is used. Default: where production has come to.")
@click.option("--origin", metavar="WORDS", help="Why you train, in a few words; they become part of the order's name.")
@click.pass_obj
def command(output: Output, at: datetime | None, origin: str | None) -> None:
    """Train one challenger on everything accepted and captured, register it, and have it judged.

    The newest two closed weeks are kept from training; champion and challenger are compared on them. The model is exported as data, and
    the export is proven to answer like the original. The same order again, by --at and --origin, changes nothing. Nothing is promoted:
    that is `lab promote`.
    """
    lab = open_lab()
    lab.snapshots.latest()  # says what to do where nothing was ever accepted
    at = at or present(lab)
    order = order_of(lab, at, origin)
    number, new = carried_out(output, order, lab)
    version, judgement = lab.ledger.version(number), lab.ledger.judgement(number) or {}
    metrics = lab.catalog.metrics(number)
    state = lab.ledger.state(number)
    output.say(f"Version {number} of {lab.model} ({version.origin}), trained on labels known until {shown(version.trained_until)}.")
    show_metrics(output, metrics)
    show_judgement(output, number, judgement["outcome"], judgement["because"], judgement["checks"])
    if judgement["outcome"] == "promote" and state in ("judged", "approved"):
        output.say(f"Next: `lab promote {number}`, as somebody who did not order it.")
    output.result(
        {"version": number, "new": new, "order": order.id, "at": at, "state": state, "metrics": metrics, "judgement": judgement}
        | {"trained_until": version.trained_until, "scorer_sha256": version.scorer_sha256, "data_sha256": version.data_sha256}
    )


def order_of(lab: "Lab", at: datetime, origin: str | None) -> "TrainModel":
    """The order; its id depends on origin and event time only, so the same words give the same order.

    Raises:
        UsageError: The origin has no letter or digit, or is one that the platform gives itself.
    """
    from mlops_lab.bootstrap.identities import TRAINER
    from mlops_lab.pipelines.orders import TrainModel, order_id

    words = origin if origin is not None else "by hand" if lab.ledger.versions() else "first"
    slug = re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")[:80]
    if not slug or slug in RESERVED:
        raise UsageError(
            f"'{words}' cannot be the origin of a training by hand.", f"use a few words of your own, not {' or '.join(RESERVED)}."
        )
    return TrainModel(order_id("train", slug, at), at, TRAINER, origin=words)


def carried_out(output: Output, order: "TrainModel", lab: "Lab") -> tuple[int, bool]:
    """The version that an order led to, and whether it was trained or judged by this call."""
    number = _version_of(lab, order.id)
    if number is not None and lab.ledger.judgement(number) is not None:
        output.say(f"Order {order.id} was carried out before; nothing was trained.")
        return number, False
    output.say(f"Order {order.id}: train on what was known at {shown(order.at)}.")
    return _carry_out(output, order, lab), True


def _version_of(lab: "Lab", order: str) -> int | None:
    """The version that an order led to, if it was carried out."""
    return next((v.number for v in lab.ledger.versions() if lab.catalog.tags(v.number).get("order_id") == order), None)


def _have_carried_out(output: Output, order: "TrainModel", lab: "Lab") -> int:
    """Give the order to the server by way of the watcher, as the platform does itself, and wait for its end.

    Raises:
        ServiceNotReady: There is no watcher, or the order did not end in time.
        TrainingFailed: It ended without a version.
    """
    from mlops_lab.bootstrap.running import require_not_gone, require_works
    from mlops_lab.bootstrap.services import WATCHER
    from mlops_lab.events import CONTROL
    from mlops_lab.pipelines.prefect_api import PrefectApi

    api = PrefectApi.of_environment(lab.settings.orchestration.timeout_s)
    for fact in lab.ledger.facts("order_failed", order.id):
        raise TrainingFailed(
            f"Order {order.id} was given before and failed: {fact.body['what']}", "when that is mended, order anew with another --origin."
        )
    require_works(lab.settings, WATCHER)
    lab.bus.publish(CONTROL, [order.to_message(lab.model)])
    began, told = time.monotonic(), ""
    while True:
        for fact in lab.ledger.facts("order_failed", order.id):
            raise TrainingFailed(str(fact.body["what"]), str(fact.body["next"]))
        for fact in lab.ledger.facts("order_done", order.id):
            return int(fact.body["version"])
        name = f"{order.origin} as of {order.at:%Y-%m-%d}"
        try:
            state = next((run.state.lower() for run in reversed(api.runs(20)) if run.name == name), "not begun yet")
        except OrchestratorUnreachable:  # it is asked for who waits; whether the order has ended is said by the ledger
            state = "unknown: the server does not answer"
        if state != told:
            output.say(f"Run '{name}' on the Prefect server: {state}")
            told = state
        require_not_gone(lab.settings, WATCHER)
        if time.monotonic() - began > TIMEOUT_S:
            raise ServiceNotReady(
                f"Order {order.id} did not end within {TIMEOUT_S:.0f} s; its run is {state}.", "see `lab flows` and the worker's log."
            )
        time.sleep(LOOK_EVERY_S)


def _carry_out(output: Output, order: "TrainModel", lab: "Lab") -> int:
    from mlops_lab.bootstrap.running import follower_of, is_inside, require_works
    from mlops_lab.bootstrap.services import PREFECT
    from mlops_lab.clock import iso

    if lab.settings.orchestration.mode == "deployments":
        return _have_carried_out(output, order, lab)
    if is_inside(lab.settings):
        require_works(lab.settings, PREFECT)  # PREFECT_API_URL says where
        temporary = False
    else:
        temporary = not runs(lab, PREFECT)
        _choose_prefect(lab, temporary)
    if temporary:
        output.say("Prefect's own server is not running, so a temporary one is started; this takes half a minute. `lab up` keeps one.")
    from mlops_lab.pipelines.on_prefect import run_training_flow  # reads the environment when it is imported
    from mlops_lab.pipelines.promote import project_alias

    take_in_logs(lab)
    judgement, version = run_training_flow(order, lab)
    # Both at the end: an order that was begun and never ended would hold back every retraining, and this process may be killed.
    said = {"type": order.TYPE, "origin": order.origin, "at": iso(order.at)}
    lab.ledger.record("order", order.id, said, at=order.at, by=order.by, why=order.origin)
    lab.ledger.record("order_done", order.id, {"version": version.number}, at=order.at, by=order.by, why=judgement.outcome)
    if not runs(lab, follower_of(lab.settings)):
        project_alias(lab)
    return version.number


def _choose_prefect(lab: "Lab", temporary: bool) -> None:
    """Point Prefect's client at the server of `lab up`, or at a temporary one that keeps its runs in the same home."""
    from mlops_lab.bootstrap.services import PREFECT, service_specs

    spec = next(service for service in service_specs(lab.settings) if service.name == PREFECT)
    os.environ.update(spec.env)
    if temporary:
        del os.environ["PREFECT_API_URL"]
        os.environ["PREFECT_SERVER_ALLOW_EPHEMERAL_MODE"] = "true"
        os.environ["PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"] = "120"
