"""The hash chain: how an entry is linked to the one before, and where a chain that somebody touched breaks first."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from mlops_lab.audit.checkpoint import Head
from mlops_lab.audit.entry import FIRST, AuditEntry, hash_of
from mlops_lab.errors import EvidenceMissing


@dataclass(frozen=True, slots=True)
class Break:
    """The first entry that does not hold, and why: a sentence that starts with one word for the kind.

    Kinds: edited, missing, swapped, added, rewritten, truncated, unsealed, and unknown head (a line of the second place
    that is no signed head of this chain).
    """

    seq: int
    why: str

    def __str__(self) -> str:
        return f"entry {self.seq} {self.why}"


def link(
    last: AuditEntry | None,
    *,
    at: datetime,
    recorded_at: datetime,
    actor: str,
    action: str,
    subject: str,
    reason: str,
    digests: Mapping[str, str],
) -> AuditEntry:
    """The entry behind `last` (None: the first of all), not sealed yet.

    Raises:
        EvidenceMissing: Actor, action or subject is empty.
    """
    for name, value in (("actor", actor), ("action", action), ("subject", subject)):
        if not value.strip():
            raise EvidenceMissing(f"A record without {name} proves nothing.", f"say the {name} of what is recorded.")
    seq, previous = (last.seq + 1, last.hash) if last else (1, FIRST)
    digest = hash_of(seq, at, recorded_at, actor, action, subject, reason, digests, previous)
    return AuditEntry(seq, at, recorded_at, actor, action, subject, reason, dict(digests), previous, digest)


def first_break(entries: Sequence[AuditEntry], heads: Sequence[Head | None], public_keys: Iterable[Ed25519PublicKey]) -> Break | None:
    """Check a whole chain against its seals and against the heads of the second place.

    Entries newer than the last head are no break: their writer may be about to append it, and their seal vouches for
    them. What this cannot see: somebody who cuts off the same tail in both places.

    Args:
        entries: As read from the store, in its order.
        heads: As read from the second place *before* the entries; line n should be head n, None is an unreadable line.
        public_keys: Keys that may have sealed an entry.

    Returns:
        The break with the lowest seq, or None where everything holds.
    """
    keys = tuple(public_keys)
    seq_of = {entry.expected_hash(): entry.seq for entry in entries} | {head.hash: head.seq for head in heads if head}
    last: AuditEntry | None = None
    for seq, entry in enumerate(entries, start=1):
        head = heads[seq - 1] if seq <= len(heads) else None
        found = _entry_break(seq, entry, last, seq_of, keys) or (_head_break(seq, entry, head, keys) if seq <= len(heads) else None)
        if found:
            return found
        last = entry
    if len(heads) > len(entries):
        return Break(len(entries) + 1, f"truncated: the store ends before it, the second place knows {len(heads)} entries.")
    return None


def _entry_break(
    seq: int, entry: AuditEntry, last: AuditEntry | None, seq_of: Mapping[str, int], keys: tuple[Ed25519PublicKey, ...]
) -> Break | None:
    digest = entry.expected_hash()
    if entry.seq > seq:
        return Break(seq, f"missing: the next one in the store is {entry.seq}.")
    if entry.seq < seq:
        return Break(seq, f"added: {entry.seq} is in the store twice.")
    if digest != entry.hash:
        elsewhere = seq_of.get(entry.hash, seq)
        if elsewhere != seq:
            return Break(seq, f"swapped: it carries the hash of entry {elsewhere}.")
        return Break(seq, "edited: its content does not have its hash.")
    if entry.previous != (last.hash if last else FIRST):
        return Break(seq, "rewritten: it does not follow from the entry before it.")
    if not Head(seq, entry.hash, entry.seal).signed_by_one_of(keys):
        return Break(seq, "unsealed: no trusted key signed it.")
    return None


def _head_break(seq: int, entry: AuditEntry, head: Head | None, keys: tuple[Ed25519PublicKey, ...]) -> Break | None:
    where = f"line {seq} of the second place"
    if head is None:
        return Break(seq, f"unknown head: {where} cannot be read.")
    if head.seq != seq:
        return Break(seq, f"unknown head: {where} speaks of entry {head.seq}.")
    if not head.signed_by_one_of(keys):
        return Break(seq, f"unknown head: no trusted key signed {where}.")
    if head.hash != entry.hash:
        return Break(seq, f"rewritten: {where} was signed for other content.")
    return None
