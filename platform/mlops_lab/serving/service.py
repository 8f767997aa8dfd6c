"""The service without a web framework: header pairs and a body in, a reply out. Every reply is made here, refusals too."""

import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Protocol

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from mlops_lab.clock import Clock, iso
from mlops_lab.errors import LabError, LogUnwritable, NoChampion
from mlops_lab.events import EventBus
from mlops_lab.features import Feature, OnlineFeatures
from mlops_lab.serving.bodies import Bodies, Described
from mlops_lab.serving.cache import KnownFile, PackageCache, Packages
from mlops_lab.serving.contract import (
    LIMITS,
    PROBLEM_TYPE,
    Limits,
    Refusal,
    check_content_encoding,
    check_content_type,
    read_request_id,
)
from mlops_lab.serving.counts import Counts
from mlops_lab.serving.facts import FactStream
from mlops_lab.serving.feedback import FeedbackDesk
from mlops_lab.serving.follower import FollowedLedger, Follower
from mlops_lab.serving.loaded import Scorer, Slot
from mlops_lab.serving.prediction_log import Durability, PredictionLog
from mlops_lab.serving.predictor import Predictor

Headers = Iterable[tuple[bytes, bytes]]

_JSON = (b"content-type", b"application/json")
_PROBLEM = (b"content-type", PROBLEM_TYPE.encode())

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes back: a status, header pairs, a body."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class ServedUseCase(Described, Protocol):
    """The part of a use case that serving needs."""

    @property
    def features(self) -> tuple[Feature, ...]:
        """In the order of `FeatureRow.values`."""
        ...


@dataclass(frozen=True, slots=True)
class ServingParts:
    """What an app is made of. `assemble` builds it from ports."""

    use_case: ServedUseCase
    slot: Slot
    facts: FactStream
    log: PredictionLog
    follower: Follower
    predictor: Predictor
    desk: FeedbackDesk
    clock: Clock


def assemble(
    directory: Path,
    use_case: ServedUseCase,
    *,
    online: OnlineFeatures,
    bus: EventBus,
    ledger: FollowedLedger,
    packages: Packages,
    keys: Iterable[Ed25519PublicKey],
    load: Callable[[bytes], Scorer],
    clock: Clock,
    feedback_token: str,
    durability: Durability = "process",
    every_s: float = 0.5,
) -> ServingParts:
    """Put a replica together in its directory (`cache/`, `log/`, `state.json`). Takes the log; nothing else is opened yet.

    Raises:
        HomeInUse: Another process is this replica.
        LogUnwritable: The directory cannot be written.
    """
    slot = Slot()
    log = PredictionLog(directory / "log", durability=durability)
    facts = FactStream(bus, online)
    cache = PackageCache(directory / "cache", packages, tuple(keys))
    names = tuple(feature.name for feature in use_case.features)
    follower = Follower(ledger, cache, KnownFile(directory / "state.json"), slot, load, names, clock, every_s=every_s)
    predictor = Predictor(online, facts, slot, log, clock)
    return ServingParts(use_case, slot, facts, log, follower, predictor, FeedbackDesk(log, clock, feedback_token), clock)


class Service:
    """Answers requests, one at a time, from one thread."""

    def __init__(self, parts: ServingParts, limits: Limits = LIMITS) -> None:
        self.parts = parts
        self.counts = Counts()
        self.bodies = Bodies(parts.use_case, limits)

    def predict(self, headers: Headers, body: bytes) -> Reply:
        """`POST /v1/predict`. Never raises."""
        began = perf_counter()
        request_id = None
        content_type = None
        try:
            for name, value in headers:
                if name == b"content-type":
                    content_type = value
                elif name == b"x-request-id":
                    request_id = read_request_id(value)
                elif name == b"content-encoding":
                    check_content_encoding(value)
            if request_id is None:
                request_id = os.urandom(16).hex()
            check_content_type(content_type)
            request = self.bodies.predict(body)
            answers = self.parts.predictor.answer(request.asks, request_id, request.purpose)
            content = orjson.dumps(answers[0] if request.single else {"request_id": request_id, "items": answers})
        except Exception as error:
            return self.refuse("predict", error, request_id)
        counts = self.counts
        counts.replies["predict", 200] += 1
        counts.rows[answers[0]["model_version"], request.purpose] += len(answers)
        counts.took(perf_counter() - began)
        return Reply(200, [_JSON, (b"x-request-id", request_id.encode())], content)

    def feedback(self, headers: Headers, body: bytes) -> Reply:
        """`POST /v1/feedback`. Never raises."""
        request_id = None
        try:
            found = dict(headers)
            request_id = read_request_id(found[b"x-request-id"]) if b"x-request-id" in found else os.urandom(16).hex()
            self.parts.desk.authorize(found.get(b"authorization"))
            check_content_type(found.get(b"content-type"))
            check_content_encoding(found.get(b"content-encoding", b""))
            outcomes = self.bodies.feedback(body)
            accepted, known = self.parts.desk.accept(outcomes, request_id)
        except Exception as error:
            return self.refuse("feedback", error, request_id)
        self.counts.replies["feedback", 202] += 1
        content = orjson.dumps({"request_id": request_id, "accepted": accepted, "known_already": known})
        return Reply(202, [_JSON, (b"x-request-id", request_id.encode())], content)

    def model(self) -> Reply:
        """`GET /v1/model`: what answers, how old the knowledge is, and what is wrong."""
        loaded, follower = self.parts.slot.current, self.parts.follower
        if loaded is None:
            return self.refuse("model", NoChampion("No model is in place.", self._why_no_model()), None)
        known_at = follower.known_at
        content: dict[str, object] = {
            "model": loaded.model,
            "version": loaded.version,
            "scorer_sha256": loaded.scorer_sha256,
            "assignment": loaded.assignment,
            "assigned_at": iso(loaded.assigned_at),
            "known_at": iso(known_at) if known_at else None,
            "known_age_s": round((self.parts.clock.now() - known_at).total_seconds(), 3) if known_at else None,
            "features": [feature.name for feature in loaded.scorer.features],
            "swaps": follower.swaps,
            "degraded": self._degraded(),
        }
        return Reply(200, [_JSON], orjson.dumps(content))

    def health(self) -> Reply:
        """`GET /healthz`: this process answers."""
        return Reply(200, [_JSON], b'{"status":"ok"}')

    def ready(self) -> Reply:
        """`GET /readyz`: predictions can be answered and logged. What is degraded is named and does not make it unready."""
        try:
            self.parts.log.check()
            if self.parts.slot.current is None:
                raise NoChampion("No model is in place.", self._why_no_model())
        except LabError as error:
            return self.refuse("ready", error, None)
        return Reply(200, [_JSON], orjson.dumps({"status": "ready", "degraded": self._degraded()}))

    def refuse(self, route: str, error: Exception, request_id: str | None) -> Reply:
        """Turn what went wrong into problem details; what is our fault is logged."""
        if isinstance(error, Refusal):
            refusal = error
        elif isinstance(error, NoChampion | LogUnwritable):
            refusal = Refusal(503, "Cannot answer now", str(error), retry_after_s=1)
        else:
            _log.error("serving.request_failed", exc_info=error, extra={"route": route, "request_id": request_id})
            detail = str(error) if isinstance(error, LabError) else "The service's log has the reason under this request_id."
            refusal = Refusal(500, "Internal error", detail)
        self.counts.replies[route, refusal.status] += 1
        headers = [_PROBLEM]
        if request_id is not None:
            headers.append((b"x-request-id", request_id.encode()))
        if refusal.retry_after_s is not None:
            headers.append((b"retry-after", str(refusal.retry_after_s).encode()))
        if refusal.status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        return Reply(refusal.status, headers, refusal.body(request_id))

    def _degraded(self) -> list[str]:
        parts = self.parts
        return [trouble for trouble in (parts.follower.trouble, parts.facts.trouble, parts.log.trouble) if trouble]

    def _why_no_model(self) -> str:
        return self.parts.follower.trouble or "train and promote a version: `lab train`, `lab promote`."
