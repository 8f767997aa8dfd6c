"""What is told of versions and of who serves. Each is written into the outbox in the transaction of what it reports."""

from typing import Annotated, Any, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from mlops_lab.events import CONTROL
from mlops_lab.events.schema import EventType, closed, field, subject

_Model = Annotated[str, Field(description="Name of the registered model.")]
_Version = Annotated[int, Field(ge=1, description="Number of the version.")]
_Digest = Annotated[str | None, Field(description="SHA-256 of its scorer; null where there is no version.")]
_Assignment = Annotated[int, Field(ge=1, description="Line of the ledger.")]
_By = Annotated[str, Field(description="Identity.")]
_Why = Annotated[str, Field(description="A sentence.")]


@closed
class Registered(TypedDict):
    """A version is there."""

    model: _Model
    version: _Version
    scorer_sha256: _Digest
    run_id: Annotated[str, Field(description="The tracking run that made it.")]
    origin: Annotated[str, Field(description="Why it exists: first, retrain, drill, or a person's words.")]


@closed
class Assigned(TypedDict):
    """A role has another version."""

    model: _Model
    version: Annotated[int | None, Field(ge=1, description="Number of the version; null where the role was taken away.")]
    scorer_sha256: _Digest
    assignment: _Assignment
    role: Annotated[str, Field(description="champion, shadow or canary.")]
    from_version: Annotated[int | None, Field(ge=1, description="The version that had the role before.")]
    kind: Annotated[str, Field(description="promotion, rollback or override.")]
    weight: Annotated[float, Field(ge=0, le=1, description="Share of the requests.")]
    by: _By
    why: _Why


@closed
class Stated(TypedDict):
    """Something was decided about a version."""

    model: _Model
    version: _Version
    scorer_sha256: _Digest
    fact: Annotated[int, Field(ge=1, description="Fact of the ledger.")]
    by: _By
    why: _Why
    outcome: NotRequired[Annotated[str, Field(description="Of a judgement: promote or keep.")]]


_EXAMPLE: dict[str, Any] = {"model": "flight-delay", "version": 2, "scorer_sha256": "5f" * 32}
_REGISTERED = _EXAMPLE | {"run_id": "0b1c", "origin": "retrain"}
_ASSIGNED = _EXAMPLE | {
    "assignment": 3,
    "role": "champion",
    "from_version": 1,
    "kind": "promotion",
    "weight": 1.0,
    "by": "operator",
    "why": "better on the same rows",
}
_STATED = _EXAMPLE | {"fact": 9, "by": "approver", "why": "looks right"}


def _control(name: str, meaning: str, data: type[Any], example: dict[str, Any]) -> EventType:
    return EventType(name, CONTROL, meaning, data, field("model", "the model"), subject("the model"), example)


EVENT_TYPES = (
    _control("ModelRegistered", "A version was registered.", Registered, _REGISTERED),
    _control("VersionJudged", "The judge compared a version with the champion.", Stated, _STATED | {"outcome": "promote"}),
    _control("VersionApproved", "A version was approved.", Stated, _STATED),
    _control("VersionRefused", "A version was refused.", Stated, _STATED),
    _control("VersionBarred", "A version may not come back by itself.", Stated, _STATED),
    _control("ModelPromoted", "A version became champion.", Assigned, _ASSIGNED),
    _control("ModelRolledBack", "The version before became champion again.", Assigned, _ASSIGNED | {"kind": "rollback"}),
    _control("OverrideForced", "Somebody gave a version its role against the rules.", Assigned, _ASSIGNED | {"kind": "override"}),
    _control("RoleAssigned", "Canary or shadow changed.", Assigned, _ASSIGNED | {"role": "canary", "weight": 0.1}),
)
