"""What a replica is made of, and how its parts are put together in its folder."""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from mlops_lab.clock import Clock
from mlops_lab.errors import LogUnwritable
from mlops_lab.features import Feature
from mlops_lab.features.policy import FeaturePolicy
from mlops_lab.serving.bodies import Described
from mlops_lab.serving.cache import PackageCache, Packages
from mlops_lab.serving.faults import Faults
from mlops_lab.serving.feedback import FeedbackDesk
from mlops_lab.serving.follower import FollowedLedger, Follower, Limits
from mlops_lab.serving.idempotency import Keys, Window
from mlops_lab.serving.known import KnownFile
from mlops_lab.serving.loaded import Scorer, Slot
from mlops_lab.serving.pin import CACHE, PIN, STATE, PinFile
from mlops_lab.serving.prediction_log import Durability, PredictionLog
from mlops_lab.serving.predictor import Predictor
from mlops_lab.serving.source import FeatureSource
from mlops_lab.serving.tokens import Tokens
from mlops_lab.telemetry import OFF, Spans

_log = logging.getLogger(__name__)


class ServedUseCase(Described, Protocol):
    """The part of a use case that serving needs."""

    @property
    def features(self) -> tuple[Feature, ...]:
        """In the order of `FeatureRow.values`."""
        ...

    @property
    def policy(self) -> FeaturePolicy:
        """What is done about features that are stale or absent."""
        ...


@dataclass(frozen=True, slots=True)
class ServingParts:
    """What an app is made of. `assemble` builds it from ports."""

    use_case: ServedUseCase
    slot: Slot
    source: FeatureSource
    log: PredictionLog
    follower: Follower
    predictor: Predictor
    desk: FeedbackDesk
    keys: Keys
    tokens: Tokens
    clock: Clock
    spans: Spans = OFF


def assemble(
    directory: Path,
    use_case: ServedUseCase,
    *,
    source: FeatureSource,
    ledger: FollowedLedger,
    packages: Packages,
    keys: Iterable[Ed25519PublicKey],
    load: Callable[[bytes], Scorer],
    load_beside: Callable[[bytes], Scorer] | None = None,
    clock: Clock,
    tokens: Tokens,
    durability: Durability = "process",
    log_limit_bytes: int = 4 * 1024 * 1024 * 1024,
    window: Window | None = None,
    faults: Faults | None = None,
    limits: Limits | None = None,
    spans: Spans = OFF,
) -> ServingParts:
    """Put a replica together in its directory (`cache/`, `log/`, `state.json`, `pin.json`). Takes the log; nothing else is opened yet.

    `load` reads a scorer while nobody is answered yet, `load_beside` beside requests; None for the same.

    Raises:
        HomeInUse: Another process is this replica.
        LogUnwritable: The directory cannot be written.
    """
    slot = Slot()
    log = PredictionLog(directory / "log", durability=durability, limit_bytes=log_limit_bytes)

    def report(what: str, subject: str, why: str, digests: Mapping[str, str]) -> None:
        log.append({"kind": "incident", "at": clock.now(), "what": what, "subject": subject, "why": why, "digests": dict(digests)})

    def report_if_it_can(what: str, subject: str, why: str, digests: Mapping[str, str]) -> None:
        try:
            report(what, subject, why, digests)
        except LogUnwritable as error:  # a full log must not keep a good package from being fetched again
            _log.error("serving.incident_not_logged", extra={"what": what, "subject": subject, "why": why, "log": error.what})

    cache = PackageCache(directory / CACHE, packages, keys, report=report_if_it_can)
    known, pin = KnownFile(directory / STATE), PinFile(directory / PIN, keys)
    names = tuple(feature.name for feature in use_case.features)

    def load_now(content: bytes) -> Scorer:
        return load(content) if slot.lineup is None or load_beside is None else load_beside(content)

    follower = Follower(ledger, cache, known, slot, load_now, names, clock, pin=pin, report=report, limits=limits, spans=spans)
    policy = use_case.policy.enforced_on(use_case.features)
    predictor = Predictor(source, policy, slot, clock, canary_fails=(faults or Faults()).fails)
    return ServingParts(use_case, slot, source, log, follower, predictor, FeedbackDesk(clock), Keys(window), tokens, clock, spans)
