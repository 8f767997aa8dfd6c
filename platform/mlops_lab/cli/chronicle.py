"""What happened in a home, line by line, as its ledger tells it: the whole of it for `lab history`, what is new while a replay runs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from mlops_lab.cli.opened import shown
from mlops_lab.cli.output import Output

if TYPE_CHECKING:
    from mlops_lab.bootstrap import Lab
    from mlops_lab.registry.ledger import Fact

WIDTH = 110


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that happened.

    Attributes:
        key: Unique in a home, and the same each time.
        at: Event time.
        recorded_at: Wall time.
        what: Kind of thing in a word or two.
        subject: What it happened to.
        says: A sentence.
        by: Identity.
        detail: The record behind it.
    """

    key: str
    at: datetime
    recorded_at: datetime
    what: str
    subject: str
    says: str
    by: str
    detail: Mapping[str, Any]


def lines(lab: "Lab") -> list[Line]:
    """Everything worth telling, in the order in which it was recorded. Identities and accepted verdicts are left to `lab audit list`."""
    found = [line for fact in lab.ledger.facts() if (line := _of_fact(fact)) is not None]
    found += _versions(lab)
    for one in lab.ledger.assignments():
        came = f"from version {one.from_version}, " if one.from_version is not None else ""
        who = f"version {one.version}" if one.version is not None else "nobody"
        detail = {"id": one.id, "version": one.version, "from": one.from_version, "kind": one.kind}
        found.append(
            Line(f"assignment-{one.id}", one.at, one.recorded_at, f"new {one.role}", who, f"{one.kind}, {came}{one.why}", one.by, detail)
        )
    return sorted(found, key=lambda line: line.recorded_at)


def _versions(lab: "Lab") -> Iterator[Line]:
    judged = {fact.subject: fact.at for fact in reversed(lab.ledger.facts("judgement"))}  # the first of each
    for version in lab.ledger.versions():
        at = judged.get(str(version.number), version.trained_until)  # a version itself keeps no event time of its order
        detail = {"origin": version.origin, "run_id": version.run_id, "scorer_sha256": version.scorer_sha256}
        says = f"registered ({version.origin}), trained on what was known until {shown(version.trained_until)}"
        key, subject = f"version-{version.number}", f"version {version.number}"
        yield Line(key, at, version.registered_at, "version", subject, says, version.registered_by, detail)


def _of_fact(fact: "Fact") -> Line | None:
    body = fact.body
    match fact.kind:
        case "snapshot":
            rows = ", ".join(f"{count:,} {table}" for table, count in body["rows"].items())
            what, subject, says = "batch accepted", fact.subject, rows
        case "gate_verdict" if not body["accepted"]:
            what, subject, says = "batch REFUSED", body["subject"], fact.why
        case "decision":
            what, subject, says = f"week {body['outcome']}", fact.subject, fact.why
        case "restatement":
            what, subject, says = "week restated", fact.subject, fact.why
        case "overdue_outcomes":
            what, subject, says = "outcomes overdue", fact.subject, fact.why
        case "order":
            what, subject, says = "order", fact.subject, f"train a challenger ({body['origin']})"
        case "order_failed":
            what, subject, says = "order FAILED", fact.subject, body["what"]
        case "incident":
            what, subject, says = "incident", fact.subject, f"{body['what']} ({body['subject']}): {fact.why}"
        case "page":
            what, subject, says = "somebody paged", fact.subject, body["because"]
        case "judgement":
            what, subject, says = f"judged: {body['outcome']}", f"version {fact.subject}", fact.why
        case "approval":
            what, subject, says = "approved", f"version {fact.subject}", fact.why
        case "refusal":
            what, subject, says = "refused", f"version {fact.subject}", fact.why
        case "refused_approval":
            what, subject, says = "approval REFUSED", f"version {fact.subject}", fact.why
        case "bar":
            what, subject, says = "barred", f"version {fact.subject}", fact.why
        case _:
            return None
    return Line(f"fact-{fact.id}", fact.at, fact.recorded_at, what, str(subject), str(says), fact.by, dict(body))


class Chronicle:
    """Tells what is new since it was last asked."""

    def __init__(self, output: Output, lab: "Lab") -> None:
        self._output = output
        self._lab = lab
        self._told = {line.key for line in lines(lab)}
        self._size = self._count()
        self.new: list[Line] = []

    def tell(self) -> list[Line]:
        """Say each new line; returns them. Cheap while nothing is new."""
        size = self._count()
        if size == self._size:
            return []
        self._size = size
        fresh = [line for line in lines(self._lab) if line.key not in self._told]
        for line in fresh:
            self._told.add(line.key)
            self._output.say(f"    {line.what:<16} {line.subject}: {shortened(line.says)}")
        self.new += fresh
        return fresh

    def _count(self) -> tuple[int, int, int]:
        ledger = self._lab.ledger
        return len(ledger.facts()), len(ledger.versions()), len(ledger.assignments())


def shortened(sentence: str, length: int = WIDTH) -> str:
    """A sentence cut to a length."""
    return sentence if len(sentence) <= length else sentence[: length - 1] + "…"
