"""A Prefect server as those speak to it who only give it work: events and runs of deployments, over its HTTP interface.

Prefect's own client would cost each process two seconds and 80 MB, and loses events of a process that is killed; here an event is with the
server when the call returns.
"""

import http.client
import json
import os
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mlops_lab.clock import iso
from mlops_lab.errors import OrchestratorRefused, OrchestratorUnreachable, SettingsWrong
from mlops_lab.pipelines.orders import TrainModel

TRAIN = "train/train"
"""Flow and deployment of trainings."""
SKILL_LOST = "mlops-lab.skill.lost"
ATTEMPTS = 3
"""How often a training is begun whose process died; then the order has failed."""
HEARTBEAT = "prefect.flow-run.heartbeat"
HEARTBEAT_S = 30
"""How often a run shows that it lives; the least that Prefect allows. The worker's PREFECT_FLOWS_HEARTBEAT_FREQUENCY says the same."""
SILENCE_S = 3 * HEARTBEAT_S
"""After how long without a heartbeat the server's automation ends a run."""
BEGUN_WITHIN_S = 120
"""How long a run may be pending."""
_EVENTS = uuid.UUID("5b1c2f0e-8a55-4c0b-9b6a-1c3f5d7e9a02")


def parameters_of(order: TrainModel, traceparent: str = "") -> dict[str, Any]:
    """An order as the parameters of the training flow."""
    given = {"order_id": order.id, "origin": order.origin, "at": iso(order.at), "by": order.by}
    return given | {"flip_share": order.flip_share, "traceparent": traceparent}


@dataclass(frozen=True, slots=True)
class FlowRun:
    """One run, as the server knows it.

    Attributes:
        name: For people.
        state: COMPLETED, FAILED, CRASHED, RUNNING, PENDING, SCHEDULED, ...
    """

    name: str
    state: str


@dataclass(frozen=True, slots=True)
class OrderRun:
    """One run of an order.

    Attributes:
        id: Of the run.
        order: Id of the order.
        state: As in FlowRun.
        since: When it came to that state, wall time.
        message: What is said of the state; may be empty.
        attempt: Counts up when a process died in it, from 1.
    """

    id: str
    order: str
    state: str
    since: datetime
    message: str
    attempt: int


class PrefectApi:
    """One server.

    Args:
        url: Of its API, as http://host:port/api.
        timeout_s: After which it counts as down.
    """

    def __init__(self, url: str, timeout_s: float = 10.0) -> None:
        self.url, self._timeout_s = url.rstrip("/"), timeout_s

    @classmethod
    def of_environment(cls, timeout_s: float = 10.0) -> "PrefectApi":
        """The server that PREFECT_API_URL names. Raises SettingsWrong."""
        url = os.environ.get("PREFECT_API_URL", "")
        if not url.startswith(("http://", "https://")):
            raise SettingsWrong("Trainings are deployments, and no server is named.", "set PREFECT_API_URL to http://HOST:4200/api.")
        return cls(url, timeout_s)

    def emit(self, event: str, cause: str, model: str, payload: Mapping[str, Any], at: datetime) -> uuid.UUID:
        """Tell the server what happened; automations act on it.

        Args:
            event: Its name.
            cause: What it follows from; the same cause gives the same event id.
            model: Whose event.
            payload: What automations hand on.
            at: Event time, which goes into the payload: the server orders by wall time.

        Raises:
            OrchestratorUnreachable: The server has it not, or may have it not; telling it again is right.
            OrchestratorRefused: It will not have it, however often it is told.
        """
        identifier = uuid.uuid5(_EVENTS, f"{event} {cause}")
        said = {
            "id": str(identifier),
            "event": event,
            "occurred": datetime.now(UTC).isoformat(),
            "resource": {"prefect.resource.id": f"mlops-lab.model.{model}", "prefect.resource.name": model},
            "payload": dict(payload) | {"event_time": iso(at), "cause": cause},
        }
        self._call("POST", "/events", [said])
        return identifier

    def run_deployment(self, deployment: str, parameters: Mapping[str, Any], key: str) -> str:
        """Order a run; the same key again is the same run. Returns the run's id. Raises OrchestratorUnreachable, OrchestratorRefused."""
        found = self._call("GET", f"/deployments/name/{deployment}")
        run = self._call(
            "POST", f"/deployments/{found['id']}/create_flow_run", {"parameters": dict(parameters), "idempotency_key": key, "state": _NOW}
        )
        return str(run["id"])

    def runs(self, limit: int = 200) -> list[FlowRun]:
        """The runs, oldest first; the newest so many. Raises OrchestratorUnreachable."""
        found = self._call("POST", "/flow_runs/filter", {"sort": "START_TIME_DESC", "limit": limit})
        return [FlowRun(str(run["name"]), str(run["state_type"])) for run in reversed(found)]

    def runs_of_orders(self, limit: int = 200) -> list[OrderRun]:
        """The newest runs of the training deployment, newest first. Raises OrchestratorUnreachable, OrchestratorRefused."""
        flow, deployment = TRAIN.split("/")
        asked = {"flows": {"name": {"any_": [flow]}}, "deployments": {"name": {"any_": [deployment]}}}
        found = self._call("POST", "/flow_runs/filter", asked | {"sort": "EXPECTED_START_TIME_DESC", "limit": limit})
        return [
            OrderRun(
                str(run["id"]),
                str(run["parameters"].get("order_id", "")),
                str(run["state_type"]),
                datetime.fromisoformat(run["state"]["timestamp"]),
                str(run["state"].get("message") or ""),
                int(run["parameters"].get("attempt") or 1),
            )
            for run in found
            if run.get("state")
        ]

    def last_heartbeat(self, run: str) -> datetime | None:
        """When a run last showed that it lives, by its own clock; None when the server has no heartbeat of it, never or not any more.

        Raises:
            OrchestratorUnreachable: It cannot be told.
            OrchestratorRefused: The server does not understand the question.
        """
        asked = {"event": {"name": [HEARTBEAT]}, "resource": {"id": [f"prefect.flow-run.{run}"]}, "order": "DESC"}
        found = self._call("POST", "/events/filter", {"filter": asked, "limit": 1})["events"]
        return datetime.fromisoformat(found[0]["occurred"]) if found else None

    def crash(self, run: str, message: str) -> None:
        """Say that a run's process is gone; one that is over stays so. Raises OrchestratorUnreachable, OrchestratorRefused."""
        self._call("POST", f"/flow_runs/{run}/set_state", {"state": {"type": "CRASHED", "name": "Crashed", "message": message}})

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with _DIRECT.open(asked, timeout=self._timeout_s) as answer:
                content = answer.read()
                return json.loads(content) if content else None
        except urllib.error.HTTPError as error:
            said = error.read(500).decode("utf-8", "replace")
            if 400 <= error.code < 500 and error.code not in _LATER:
                raise OrchestratorRefused.of(self.url, f"{method} {path}", error.code, said) from error
            raise OrchestratorUnreachable.at(self.url, f"{method} {path}: {error.code} {said}") from error
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise OrchestratorUnreachable.at(self.url, str(error)) from error


_NOW = {"type": "SCHEDULED"}
_LATER = frozenset({408, 425, 429})
"""Statuses below 500 that say: not now."""
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Past any proxy of the environment: the server is a part of the platform."""
