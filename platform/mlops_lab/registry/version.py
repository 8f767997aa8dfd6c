"""A model version and where it is in its life."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class State(StrEnum):
    """Derived from what is recorded about a version, never stored: the latest fact decides, `barred` stays."""

    PROPOSED = "proposed"
    JUDGED = "judged"
    APPROVED = "approved"
    REFUSED = "refused"
    SERVING = "serving"
    RETIRED = "retired"
    BARRED = "barred"


class Role(StrEnum):
    """What a version may be assigned to."""

    CHAMPION = "champion"
    SHADOW = "shadow"
    CANARY = "canary"


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A registered candidate.

    Attributes:
        model: Name of the registered model.
        number: 1, 2, 3, ... as the registry counts.
        run_id: The tracking run that made it.
        scorer_sha256: Digest and address of its scorer.
        data_sha256: Digest of the rows it was trained on.
        trained_until: Event time behind which it has seen no label; what is judged must lie behind it.
        registered_at: Wall time.
        registered_by: Identity that ordered the training.
        origin: Why it exists: `first`, `retrain`, `drill`, or a person's words.
    """

    model: str
    number: int
    run_id: str
    scorer_sha256: str
    data_sha256: str
    trained_until: datetime
    registered_at: datetime
    registered_by: str
    origin: str


@dataclass(frozen=True, slots=True)
class Assignment:
    """One line of the ledger: from here on, this version has this role.

    Attributes:
        id: 1, 2, 3, ... over all roles of all models.
        replaces: Id of the assignment of this role that it took the place of (compare-and-set), None for the first.
        version: Model version number; None takes the role away.
        from_version: The version that had the role before, None for the first.
        weight: Share of requests, 0 to 1; 1 for a champion.
        at: Event time.
        recorded_at: Wall time.
        by: Identity.
        why: A sentence.
        kind: `promotion`, `rollback` or `override`.
    """

    id: int
    model: str
    role: Role
    replaces: int | None
    version: int | None
    from_version: int | None
    weight: float
    at: datetime
    recorded_at: datetime
    by: str
    why: str
    kind: str
