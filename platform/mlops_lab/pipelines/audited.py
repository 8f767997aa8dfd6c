"""Whether the record can be trusted: the audit trail holds, and every row of the ledger is in it."""

from mlops_lab.bootstrap import Lab
from mlops_lab.errors import AuditBroken

_NEXT = "keep a copy of the home before anything else; `lab audit list` shows the entries around it, the backup tells what was there."


def require_accounted(lab: Lab) -> None:
    """Check every entry, its signature, and every row of the ledger against its entry. Raises AuditBroken."""
    found = lab.trail.verify()
    if found is not None:
        raise AuditBroken(f"The audit trail of {lab.home} does not hold, first {found}", _NEXT)
    strangers = list(lab.ledger.unaccounted())
    if strangers:
        raise AuditBroken(f"{len(strangers)} rows of the ledger do not agree with the audit trail, first: {strangers[0]}", _NEXT)
