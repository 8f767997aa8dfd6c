"""What a replica is made of, and how its parts are put together in its folder."""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from mlops_lab.clock import Clock
from mlops_lab.errors import LogUnwritable
from mlops_lab.events import Topics
from mlops_lab.features import Feature, OnlineFeatures
from mlops_lab.serving.bodies import Described
from mlops_lab.serving.cache import PackageCache, Packages
from mlops_lab.serving.facts import FactStream
from mlops_lab.serving.faults import Faults
from mlops_lab.serving.feedback import FeedbackDesk
from mlops_lab.serving.follower import FollowedLedger, Follower, Limits
from mlops_lab.serving.idempotency import Keys, Window
from mlops_lab.serving.known import KnownFile
from mlops_lab.serving.loaded import Scorer, Slot
from mlops_lab.serving.pin import CACHE, PIN, STATE, PinFile
from mlops_lab.serving.prediction_log import Durability, PredictionLog
from mlops_lab.serving.predictor import Predictor
from mlops_lab.serving.tokens import Tokens

_log = logging.getLogger(__name__)


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
    keys: Keys
    tokens: Tokens
    clock: Clock


def assemble(
    directory: Path,
    use_case: ServedUseCase,
    *,
    online: OnlineFeatures,
    bus: Topics,
    ledger: FollowedLedger,
    packages: Packages,
    keys: Iterable[Ed25519PublicKey],
    load: Callable[[bytes], Scorer],
    clock: Clock,
    tokens: Tokens,
    durability: Durability = "process",
    log_limit_bytes: int = 4 * 1024 * 1024 * 1024,
    window: Window | None = None,
    faults: Faults | None = None,
    limits: Limits | None = None,
) -> ServingParts:
    """Put a replica together in its directory (`cache/`, `log/`, `state.json`, `pin.json`). Takes the log; nothing else is opened yet.

    Raises:
        HomeInUse: Another process is this replica.
        LogUnwritable: The directory cannot be written.
    """
    slot = Slot()
    log = PredictionLog(directory / "log", durability=durability, limit_bytes=log_limit_bytes)
    facts = FactStream(bus, online)

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
    follower = Follower(ledger, cache, known, slot, load, names, clock, pin=pin, report=report, limits=limits)
    predictor = Predictor(online, facts, slot, clock, canary_fails=(faults or Faults()).fails)
    return ServingParts(use_case, slot, facts, log, follower, predictor, FeedbackDesk(clock), Keys(window), tokens, clock)
