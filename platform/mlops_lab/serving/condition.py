"""What a service says of itself: which model answers, whether it is ready, and how what it leans on is doing."""

from collections.abc import Callable

import orjson

from mlops_lab.clock import iso
from mlops_lab.errors import LabError, NoChampion
from mlops_lab.serving.call import Reply
from mlops_lab.serving.dependency import Dependency
from mlops_lab.serving.parts import ServingParts

_JSON = (b"content-type", b"application/json")


class Condition:
    """Of one service, asked from its one thread.

    Args:
        parts: The service's.
        refuse: Makes the reply to a route that cannot be answered: see `Refusals.refuse`.
    """

    def __init__(self, parts: ServingParts, refuse: Callable[[str, Exception, str | None], Reply]) -> None:
        self._parts = parts
        self._refuse = refuse

    def model(self) -> Reply:
        """`GET /v1/model`: what answers, how old the knowledge is, and what is wrong."""
        loaded, follower = self._parts.slot.current, self._parts.follower
        if loaded is None:
            return self._refuse("model", NoChampion("No model is in place.", self._why_no_model()), None)
        known_at = follower.known_at
        content: dict[str, object] = {
            "model": loaded.model,
            "version": loaded.version,
            "scorer_sha256": loaded.scorer_sha256,
            "assignment": loaded.assignment,
            "assigned_at": iso(loaded.assigned_at),
            "known_at": iso(known_at) if known_at else None,
            "known_age_s": None if follower.knowledge_age_s is None else round(follower.knowledge_age_s, 3),
            "features": [feature.name for feature in loaded.scorer.features],
            "swaps": follower.swaps,
            "degraded": self._degraded(),
        }
        return Reply(200, [_JSON], orjson.dumps(content))

    def health(self) -> Reply:
        """`GET /healthz`: this process answers."""
        return Reply(200, [_JSON], b'{"status":"ok"}')

    def ready(self) -> Reply:
        """`GET /readyz`: predictions can be answered and logged. Each dependency is named with its state; one that is down does not
        make the service unready as long as the last known good model answers."""
        why: LabError | None = None
        try:
            self._parts.log.check()
            self._parts.slot.require()
        except NoChampion:
            why = NoChampion("No model is in place.", self._why_no_model())
        except LabError as error:
            why = error
        dependencies = {each.name: _told(each) for each in self.dependencies()}
        if why is None:
            return Reply(200, [_JSON], orjson.dumps({"status": "ready", "dependencies": dependencies, "degraded": self._degraded()}))
        reply = self._refuse("ready", why, None)
        reply.body = orjson.dumps(orjson.loads(reply.body) | {"dependencies": dependencies})
        return reply

    def dependencies(self) -> list[Dependency]:
        """What the service leans on. `model`: ok or none; `log`: ok or down; `bus` or `features`, whichever it reads facts from, as its
        source says; the others as `Follower.dependencies` says."""
        parts = self._parts
        loaded, log = parts.slot.current, parts.log
        model = (
            Dependency("model", "ok", facts={"version": loaded.version}) if loaded else Dependency("model", "none", self._why_no_model())
        )
        size: dict[str, int | float | str | None] = {"bytes": log.total_bytes, "durability": log.durability}
        return [
            model,
            Dependency("log", "down" if log.trouble else "ok", log.trouble or "", size),
            parts.source.dependency(),
            *parts.follower.dependencies(),
        ]

    def _degraded(self) -> list[str]:
        parts = self._parts
        return [trouble for trouble in (parts.follower.trouble, parts.source.trouble, parts.log.trouble) if trouble]

    def _why_no_model(self) -> str:
        return self._parts.follower.trouble or "train and promote a version: `lab train`, `lab promote`."


def _told(dependency: Dependency) -> dict[str, object]:
    why = {"why": dependency.detail} if dependency.detail else {}
    return {"state": dependency.state, **why, **dependency.facts}
