"""What one can ask of a ledger, answered from its three lists; how the lists are kept is the adapter's business."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from mlops_lab.registry import ledger
from mlops_lab.registry.ledger import DECISION, JUDGEMENT, SNAPSHOT, Fact
from mlops_lab.registry.version import Assignment, ModelVersion, Role, State


class History(ABC):
    """The reading half of a `Ledger`; see there for what each method promises."""

    @property
    @abstractmethod
    def model(self) -> str: ...

    @abstractmethod
    def versions(self) -> Sequence[ModelVersion]: ...

    @abstractmethod
    def assignments(self) -> Sequence[Assignment]: ...

    @abstractmethod
    def facts(self, kind: str | None = None, subject: str | None = None) -> Sequence[Fact]: ...

    def version(self, number: int) -> ModelVersion:
        return ledger.version_of(self.model, self.versions(), number)

    def state(self, number: int) -> State:
        self.version(number)
        return ledger.state_of(number, self.assignments(), self.facts(subject=str(number)))

    def champion(self) -> Assignment:
        return ledger.champion_of(self.model, self.assignments())

    def current(self, role: Role) -> Assignment | None:
        return ledger.current(self.assignments(), role)

    def serving_at(self, at: datetime) -> Assignment | None:
        return ledger.served_at(self.assignments(), Role.CHAMPION, at)

    def judgement(self, version: int) -> dict[str, Any] | None:
        self.version(version)
        found = self.facts(JUDGEMENT, str(version))
        return dict(found[-1].body) if found else None

    def decisions(self) -> Sequence[dict[str, Any]]:
        return [dict(fact.body) for fact in self.facts(DECISION)]

    def snapshots(self) -> Sequence[dict[str, Any]]:
        return [dict(fact.body) for fact in self.facts(SNAPSHOT)]
