"""What a gate found. No verdict, an error in the gate, or nothing checked means refused."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Finding:
    """One expectation, checked.

    Attributes:
        expectation: Its name.
        table: The table it speaks of.
        passed: Whether the rule held.
        blocking: Whether a failure refuses the batch.
        rows: Rows checked.
        failed_rows: Rows that broke the rule (0 for rules about the whole table).
        observed: The value found, as text, where the rule has one ("mean 21.4").
        examples: Up to ten offending values, as text.
    """

    expectation: str
    table: str
    passed: bool
    blocking: bool
    rows: int
    failed_rows: int
    observed: str
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """All findings of one gate about one subject.

    Attributes:
        gate: "batch" or "window".
        subject: What was checked: a batch name, a window id.
        digest: Content digest of what was checked, so that a verdict cannot be used for other data.
        findings: One per expectation, in order. Empty means that nothing was checked, which refuses.
        result: The framework's own result as JSON-able dict, for the record.
    """

    gate: str
    subject: str
    digest: str
    findings: tuple[Finding, ...]
    result: dict[str, Any]

    @property
    def accepted(self) -> bool:
        """True only if something was checked and every blocking expectation held."""
        return bool(self.findings) and not self.reasons

    @property
    def reasons(self) -> tuple[Finding, ...]:
        """The blocking findings that failed."""
        return tuple(f for f in self.findings if f.blocking and not f.passed)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """The failed findings that do not block."""
        return tuple(f for f in self.findings if not f.blocking and not f.passed)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, for records; `accepted` is written for readers and derived again when read."""
        return {**asdict(self), "findings": [{**asdict(f), "examples": list(f.examples)} for f in self.findings], "accepted": self.accepted}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Verdict":
        """The inverse of `to_dict`. Raises KeyError or TypeError where it is not one."""
        findings = tuple(Finding(**{**finding, "examples": tuple(finding["examples"])}) for finding in values["findings"])
        return cls(values["gate"], values["subject"], values["digest"], findings, dict(values["result"]))
