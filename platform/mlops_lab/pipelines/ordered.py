"""Training orders that runs of a Prefect server carry out, followed until they end: one that stayed open would hold back every retraining.

The ledger is what counts: a server may lose events in a restart, and a person may cancel a run.
"""

import logging
from datetime import timedelta

from mlops_lab.bootstrap import Lab
from mlops_lab.bootstrap.identities import PLATFORM
from mlops_lab.clock import from_iso
from mlops_lab.errors import OrchestratorRefused
from mlops_lab.pipelines.orders import TrainModel
from mlops_lab.pipelines.prefect_api import ATTEMPTS, TRAIN, OrderRun, PrefectApi, parameters_of
from mlops_lab.pipelines.silence import Silence
from mlops_lab.registry.ledger import Fact
from mlops_lab.registry.open_orders import FAILED, open_orders

_OVER = frozenset({"COMPLETED", "FAILED", "CANCELLED", "CRASHED"})
_NEXT = "see `lab flows` and the run's log on the server, then `lab train` with another --origin."

log = logging.getLogger(__name__)


def follow_up(lab: Lab, silence: Silence) -> None:
    """Look after orders that are open for longer than `orchestration.patience_s`: one without a run is given to the server again, and so is
    one whose run crashed that long ago, as often as the server would; one whose runs are all over otherwise is recorded as failed. A run
    that says nothing any more has crashed.

    Args:
        lab: Whose orders.
        silence: What was heard of runs at earlier looks.

    Raises:
        OrchestratorUnreachable: Nothing is known; look again later.
    """
    patience, now = timedelta(seconds=lab.settings.orchestration.patience_s), lab.clock.now()
    if not any(now - fact.recorded_at > patience for fact in open_orders(lab.ledger)):
        return
    api = PrefectApi.of_environment(lab.settings.orchestration.timeout_s)
    runs = api.runs_of_orders()
    for fact in open_orders(lab.ledger):  # read after the runs: an order ends before its run does
        if now - fact.recorded_at <= patience:
            continue
        own = [run for run in runs if run.order == fact.subject]
        begun = max((run.attempt for run in own), default=0)
        if all(run.state in _OVER and now - run.since > patience for run in own):
            if not own or (own[0].state == "CRASHED" and begun < ATTEMPTS):
                _give_again(fact, begun + 1, api, lab)
            else:
                _end(fact, own[0], lab)
        for run in own:
            if why := silence.of(run, api, now):
                log.warning("run.crashed", extra={"order": run.order, "run": run.id, "why": why})
                api.crash(run.id, why)


def _give_again(fact: Fact, attempt: int, api: PrefectApi, lab: Lab) -> None:
    """The event or the run was lost; or the server knows of a crash and acts on it late, as it does for 15 minutes after its start: it has
    seen no event yet that the crash follows. The server makes one run of the same key, so looking again soon does no harm.
    """
    order = TrainModel(
        fact.subject, from_iso(fact.body["at"]), fact.by, origin=fact.body["origin"], flip_share=float(fact.body.get("flip_share", 0))
    )
    log.info("order.given_again", extra={"order": order.id, "attempt": attempt})
    again = {} if attempt == 1 else {"attempt": attempt}
    try:
        api.run_deployment(TRAIN, parameters_of(order) | again, f"{order.id} {attempt}" if again else order.id)
    except OrchestratorRefused as error:
        _fail(fact, error.what, error.next_step, lab)


def _end(fact: Fact, last: OrderRun, lab: Lab) -> None:
    _fail(
        fact,
        f"The run of order {fact.subject} ended without a result, {last.state.lower()}: {last.message or 'no reason is said'}.",
        _NEXT,
        lab,
    )


def _fail(fact: Fact, what: str, next_step: str, lab: Lab) -> None:
    log.error("order.failed", extra={"order": fact.subject, "why": what})
    lab.ledger.record(FAILED, fact.subject, {"type": TrainModel.TYPE, "what": what, "next": next_step}, at=fact.at, by=PLATFORM, why=what)
