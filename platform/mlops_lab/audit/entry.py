"""One entry of the audit trail, and the one way in which anything is turned into a digest."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mlops_lab.clock import iso

FIRST = "0" * 64
"""What the first entry names as the hash before it."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Who did what to what, why, and with which digests as proof.

    Attributes:
        seq: 1, 2, 3, ... without a gap.
        at: Event time of what is recorded, aware, UTC.
        recorded_at: Wall time, aware, UTC.
        actor: Identity that did it.
        action: What was done, as the event says it: `ModelPromoted`.
        subject: What it was done to: `flight-delay/3`, a batch, a window.
        reason: A sentence.
        digests: SHA-256 by name of everything written with this entry. `row:` names are rows of the same database.
        previous: Hash of the entry before, `FIRST` for the first.
        hash: SHA-256 over the canonical JSON of all fields above.
        seal: Ed25519 signature over seq and hash, hexadecimal, made by the writer; empty until it is sealed.
    """

    seq: int
    at: datetime
    recorded_at: datetime
    actor: str
    action: str
    subject: str
    reason: str
    digests: Mapping[str, str]
    previous: str
    hash: str
    seal: str = ""

    def expected_hash(self) -> str:
        """The hash that the fields of this entry should have."""
        return hash_of(self.seq, self.at, self.recorded_at, self.actor, self.action, self.subject, self.reason, self.digests, self.previous)


def canonical(value: Any) -> str:
    """JSON with sorted keys, no spaces, ASCII only; the same value gives the same text on every machine.

    Raises:
        TypeError: Something in it is not JSON.
        ValueError: A number is NaN or infinite.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest_of(value: Any) -> str:
    """SHA-256 of the canonical JSON, lower-case hexadecimal."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def hash_of(
    seq: int,
    at: datetime,
    recorded_at: datetime,
    actor: str,
    action: str,
    subject: str,
    reason: str,
    digests: Mapping[str, str],
    previous: str,
) -> str:
    """The hash that links an entry into the chain."""
    return digest_of(
        {
            "seq": seq,
            "at": iso(at),
            "recorded_at": iso(recorded_at),
            "actor": actor,
            "action": action,
            "subject": subject,
            "reason": reason,
            "digests": dict(digests),
            "previous": previous,
        }
    )
