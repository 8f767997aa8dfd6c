"""Flows as deployments of a Prefect server, in one list, with the automations that go with them. Registering again changes nothing.

A process worker starts each run as a process of its own, which reads where everything is from the environment.
"""

import os

os.environ.setdefault("DO_NOT_TRACK", "true")  # read while prefect is imported

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from prefect import flow, get_client, runtime
from prefect.automations import Automation
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy, StateType
from prefect.deployments.runner import RunnerDeployment
from prefect.events.actions import ChangeFlowRunState, RunDeployment
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.exceptions import ObjectNotFound
from prefect.types.entrypoint import EntrypointType

from mlops_lab.bootstrap import Lab
from mlops_lab.bootstrap.identities import TRAINER
from mlops_lab.clock import from_iso
from mlops_lab.errors import LabError, ServiceError
from mlops_lab.pipelines.audited import require_accounted
from mlops_lab.pipelines.handlers import TRAINING, carry_out, handle
from mlops_lab.pipelines.on_prefect import steps
from mlops_lab.pipelines.orders import TrainModel
from mlops_lab.pipelines.prefect_api import ATTEMPTS, BEGUN_WITHIN_S, HEARTBEAT, SILENCE_S, SKILL_LOST
from mlops_lab.registry.open_orders import FAILED, ended_orders

POOL, TAG = "lab", "mlops-lab"


def _named_after_order() -> str:
    given = runtime.flow_run.parameters
    return f"{given['origin']} as of {str(given['at'])[:10]}"


@flow(name="train", flow_run_name=_named_after_order, log_prints=False)
def train(order_id: str, origin: str, at: str, by: str = TRAINER, flip_share: float = 0.0, traceparent: str = "", attempt: int = 1) -> None:
    """Train, register, judge; a retraining that the judge is for takes the traffic. An order that has ended already is not begun again.

    Args:
        order_id: Has the effect of once.
        origin: `first`, `retrain`, `drill`, or a person's words.
        at: Event time: only what was known then is used.
        by: Identity that orders it.
        flip_share: Share of training labels to turn round, 0 to 1: for drills.
        traceparent: The trace that led to it.
        attempt: Counts up when a process died in it.
    """
    lab = Lab.of_environment()
    lab.process = "training"
    order = TrainModel(order_id, from_iso(at), by, origin=origin, flip_share=flip_share)
    if order.id in ended_orders(lab.ledger):
        return
    message = replace(order.to_message(lab.model), traceparent=traceparent)

    def begin(order: TrainModel, lab: Lab) -> Any:
        if attempt > ATTEMPTS:
            raise ServiceError(
                f"The process of training {order.id} died {ATTEMPTS} times.", "read the log of the worker: memory is the usual reason."
            )
        return steps(order, lab)

    handle(message, lab, replace(TRAINING, orders={TrainModel.TYPE: lambda message, lab: carry_out(message, lab, begin)}))
    if failed := _failure(order, lab):
        raise ServiceError(failed, "`lab history` has the order; order it anew when its reason is mended.")


@flow(name="verify-audit", log_prints=False)
def verify_audit() -> None:
    """Verify the record as `lab audit verify` does; a break fails the run."""
    require_accounted(Lab.of_environment())


def _failure(order: TrainModel, lab: Lab) -> str | None:
    return next((str(fact.body["what"]) for fact in lab.ledger.facts(FAILED) if fact.subject == order.id), None)


_ANY_RUN = {"prefect.resource.id": "prefect.flow-run.*"}


@dataclass(frozen=True, slots=True)
class Deployed:
    """One deployment.

    Attributes:
        flow: What runs.
        name: Of the deployment.
        description: When it runs, for a person.
        cron: Its schedule in UTC, or None.
        alone: Whether a second run waits for the first.
    """

    flow: Any
    name: str
    description: str
    cron: str | None = None
    alone: bool = False


DEPLOYMENTS = (
    Deployed(train, "train", "Started by the automation on lost skill, by `lab train`, or by hand. One at a time.", alone=True),
    Deployed(verify_audit, "nightly", "Verifies the audit trail every night; a break fails the run.", cron="17 3 * * *"),
)


def register(say: Callable[[str], None]) -> None:
    """Make the work pool, the deployments and the automations what the lists say. Raises ServiceError."""
    try:
        with get_client(sync_client=True) as client:
            try:
                client.read_work_pool(POOL)
                say(f"work pool '{POOL}' is there")
            except ObjectNotFound:
                client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
                say(f"work pool '{POOL}' made")
            ids = {}
            for one in DEPLOYMENTS:
                ids[one.name] = _deployment(one).apply()
                say(f"deployment '{one.flow.name}/{one.name}' is as the list says{f', at {one.cron} UTC' if one.cron else ''}")
        for automation in automations(ids["train"]):
            say(f"automation '{automation.name}' {_kept(automation)}")
    except LabError:
        raise
    except Exception as error:  # Prefect's client raises its own, httpx's and pydantic's
        raise ServiceError(f"Prefect did not take what was to be registered: {error}.", "see that its server runs, then again.") from error


def _deployment(one: Deployed) -> RunnerDeployment:
    limit = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE) if one.alone else None
    return RunnerDeployment.from_flow(
        one.flow,
        name=one.name,
        cron=one.cron,
        concurrency_limit=limit,
        description=one.description,
        tags=[TAG],
        work_pool_name=POOL,
        entrypoint_type=EntrypointType.MODULE_PATH,
    )


def automations(train_id: Any) -> Iterator[Automation]:
    """The automations, made anew each time."""
    texts = ("order_id", "origin", "at", "by", "traceparent")
    given = {name: _text(f"event.payload.{name}") for name in texts} | {"flip_share": _number("event.payload.flip_share")}
    # A run that somebody starts in the UI has only the parameters that were typed: what was left out is the flow's default here too.
    typed = {"by": f" | default('{TRAINER}', true)", "traceparent": " | default('')"}
    again = {name: _text(f"flow_run.parameters.{name}{typed.get(name, '')}") for name in texts} | {
        "flip_share": _number("flow_run.parameters.flip_share | default(0.0)"),
        "attempt": _number("(flow_run.parameters.attempt or 1) | int + 1"),
    }
    yield Automation(
        name="lost skill starts a training",
        description="The watch found that the champion lost skill for a reason that its inputs do not explain.",
        trigger=EventTrigger(expect={SKILL_LOST}, posture=Posture.Reactive, threshold=1),
        actions=[RunDeployment(source="selected", deployment_id=train_id, parameters=given)],
    )
    yield _silence(
        "a run without heartbeat has crashed",
        f"A process that was killed says nothing any more; after {SILENCE_S} s of silence its run is over.",
        after=HEARTBEAT,
        goes_on=HEARTBEAT,
        within_s=SILENCE_S,
        message="No heartbeat: its process is gone.",
    )
    yield _silence(
        "a run that nobody began has crashed",
        "A worker that was killed between taking a run and starting its process leaves it pending.",
        after="prefect.flow-run.Pending",
        goes_on="prefect.flow-run.Running",
        within_s=BEGUN_WITHIN_S,
        message="Nobody began it.",
    )
    yield Automation(
        name="a crashed training is begun again",
        description=f"The same order once more, {ATTEMPTS} times in all; registering is idempotent by the order's id.",
        trigger=EventTrigger(
            match=_ANY_RUN,
            match_related=[{"prefect.resource.role": "deployment", "prefect.resource.id": f"prefect.deployment.{train_id}"}],
            expect={"prefect.flow-run.Crashed"},
            posture=Posture.Reactive,
            threshold=1,
        ),
        actions=[RunDeployment(source="selected", deployment_id=train_id, parameters=again)],
    )


def _silence(name: str, description: str, *, after: str, goes_on: str, within_s: int, message: str) -> Automation:
    """End a run of ours that neither goes on nor ends for so long after an event of its own."""
    over = {f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled", "Crashed")}
    return Automation(
        name=name,
        description=description,
        trigger=EventTrigger(
            match=_ANY_RUN,
            match_related=[{"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{TAG}"}],
            after={after},
            expect={goes_on, *over},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=within_s),
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, name="Crashed", message=message)],
    )


def _text(expression: str) -> dict[str, str]:
    return {"__prefect_kind": "jinja", "template": "{{ " + expression + " }}"}


def _number(expression: str) -> dict[str, Any]:
    # A template gives text, and the server refuses a text for a number.
    return {"__prefect_kind": "json", "value": _text(expression)}


def _kept(wanted: Automation) -> str:
    """Make it, change it, or leave it; says which. One that a person switched off stays off."""
    try:
        found: Any = Automation.read(name=wanted.name)
    except ValueError:  # Prefect's word for: there is none of that name
        wanted.create()
        return "made"
    parts = {"description", "trigger", "actions"}
    off = "" if found.enabled else ", switched off"
    # Not as JSON: its lists of event names come in the order of a set, which differs between processes. To write an automation again is
    # not harmless: its triggers get new ids, and the server forgets the runs that it waits for.
    if found.model_dump(include=parts) == wanted.model_dump(include=parts):
        return f"is there{off}"
    wanted.id, wanted.enabled = found.id, found.enabled
    wanted.update()
    return f"changed{off}"
