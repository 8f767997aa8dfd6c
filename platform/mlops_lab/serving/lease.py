"""How long a canary may be dealt requests without a word from the ledger. Arithmetic only: no clock, no I/O.

A canary's line is a lease, so that nothing stays on trial for ever when whoever judges it is dead. The line says by wall time when it was
written, and wall clocks are stepped. So the wall clock counts only for the time in which this replica did not look: a line that was not
there at the last look is no older than that look, whatever the clocks say. While a replica follows, that is half a second, and no
step of a clock changes when a lease ends; at a start, the age by the wall clock counts in full, but never less than 0.
"""

from datetime import datetime


def lease_ends(recorded_at: datetime, lease_s: float, *, now: datetime, monotonic_s: float, unseen_s: float) -> float:
    """When a line that is seen for the first time has to be gone.

    Args:
        recorded_at: Wall time at which it was written.
        lease_s: How long it may stay.
        now: Wall time.
        monotonic_s: The monotonic clock at `now`.
        unseen_s: Since the last look at the ledger, by the monotonic clock; infinity at the first look.

    Returns:
        A moment of the monotonic clock; at most `lease_s` ahead.
    """
    age_s = min(max((now - recorded_at).total_seconds(), 0.0), unseen_s)
    return monotonic_s + lease_s - age_s
