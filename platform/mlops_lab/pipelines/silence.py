"""Runs that the server believes to be alive, and of which nothing is heard any more.

Automations of the server end such a run. But the server forgets the runs that it waits for when it comes back a minute after their time was
up, as after a restart of the machine, and when an automation is written anew; and a person may switch them off.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from mlops_lab.pipelines.prefect_api import BEGUN_WITHIN_S, SILENCE_S, OrderRun, PrefectApi

SILENT_FOR = 3 * timedelta(seconds=max(SILENCE_S, BEGUN_WITHIN_S))
"""How long nothing is heard before a run is over: well after the automations would have ended it. More than 5 minutes after a run began the
server acts on its end at once, also when it was restarted meanwhile."""
_LOOKED_WITHIN = timedelta(seconds=SILENCE_S)
"""Between two looks further apart the server may have been away, and heartbeats with it."""


@dataclass(frozen=True, slots=True)
class _Heard:
    """The last that is known of a run, when one looked first and found it so, and when one looked last."""

    sign: datetime
    first: datetime
    last: datetime


class Silence:
    """What one process heard of runs, look by look.

    Silence counts from the first look that found it, and while the server answers: one that was away for an hour comes back with old
    heartbeats of runs that live.
    """

    def __init__(self) -> None:
        self._heard: dict[str, _Heard] = {}

    def of(self, run: OrderRun, api: PrefectApi, now: datetime) -> str:
        """Look at a run; returns why it is over, or nothing: it lives, it has not been silent for long, or nothing can be told of it.

        Args:
            run: As the server just described it.
            api: The server.
            now: Wall time.

        Raises:
            OrchestratorUnreachable: It cannot be told.
            OrchestratorRefused: The server does not understand the question.
        """
        sign = _last_sign(run, api)
        if sign is None:
            self._heard.pop(run.id, None)
            return ""
        heard = self._heard.get(run.id)
        if heard is None or heard.sign != sign or now - heard.last > _LOOKED_WITHIN:
            heard = _Heard(sign, now, now)
        self._heard[run.id] = replace(heard, last=now)
        if now - heard.first <= SILENT_FOR:
            return ""
        said = "No heartbeat" if run.state == "RUNNING" else "Nobody began it"
        return f"{said} since {sign:%Y-%m-%d %H:%M:%S}Z, and the server did not end it: found by the watcher."


def _last_sign(run: OrderRun, api: PrefectApi) -> datetime | None:
    """When a run that should be heard of was heard of last; None too when the server has no heartbeat of it."""
    if run.state == "RUNNING":
        return api.last_heartbeat(run.id)
    return run.since if run.state == "PENDING" else None
