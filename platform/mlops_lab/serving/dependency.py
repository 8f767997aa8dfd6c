"""What a replica depends on, and how each part is doing: the lines of `/readyz`."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Dependency:
    """One part.

    Attributes:
        name: `ledger`, `store`, `pin`, `canary`, `shadow`.
        state: A word, see `Follower.dependencies`.
        detail: A sentence for a person; empty where the state says it all.
        facts: Numbers and texts for a program, ready for JSON.
    """

    name: str
    state: str
    detail: str = ""
    facts: Mapping[str, int | float | str | None] = field(default_factory=dict)
