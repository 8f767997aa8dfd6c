"""Who did what and why: a hash chain with sealed entries, written in the transaction of what it records."""

from mlops_lab.audit.chain import Break, first_break, link
from mlops_lab.audit.checkpoint import Head, HeadsFile, seal
from mlops_lab.audit.entry import AuditEntry, canonical, digest_of
from mlops_lab.audit.port import AuditTrail, Recording

__all__ = ["AuditEntry", "AuditTrail", "Break", "Head", "HeadsFile", "Recording", "canonical", "digest_of", "first_break", "link", "seal"]
