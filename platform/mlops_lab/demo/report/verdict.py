"""Whether the claims hold, as the summary says: which are broken, and which all acts share."""

from dataclasses import dataclass
from typing import Any

from mlops_lab.demo.report.timeline import Record


@dataclass(frozen=True)
class Claim:
    """A sentence, whether it holds, and what was found."""

    sentence: str
    holds: bool
    found: Any


def claims_of(step: Record) -> list[Claim]:
    """The claims of one act. What is broken without being among the evidence is a claim too."""
    evidence, broken = step["evidence"], list(step["broken"])
    claims = []
    for sentence, seen in evidence.items():
        said = [line for line in broken if line == sentence or line.startswith(f"{sentence} (found ")]
        broken = [line for line in broken if line not in said]
        claims.append(Claim(sentence, not said, seen))
    return [*claims, *(Claim(line, False, None) for line in broken)]


def shared_claims(summary: Record) -> list[Claim]:
    """What every act rests on; nothing where there is only one act."""
    first, *others = [claims_of(step) for step in summary["steps"]] or [[]]
    return [claim for claim in first if others and all(claim in claims for claims in others)]


def all_claims(summary: Record) -> list[tuple[str, Claim]]:
    """Each claim once, with the act that makes it."""
    shared = shared_claims(summary)
    own = [(f"Act {step['id']}", claim) for step in summary["steps"] for claim in claims_of(step) if claim not in shared]
    return [*(("Every act", claim) for claim in shared), *own]


def broken_claims(summary: Record) -> list[tuple[str, Claim]]:
    """Those that do not hold."""
    return [(act, claim) for act, claim in all_claims(summary) if not claim.holds]
