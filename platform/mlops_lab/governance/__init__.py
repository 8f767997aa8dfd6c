"""Who may approve what, and the record of it."""

from mlops_lab.governance.approval import Approvals, Duty, Identity, policy_identity, read_token

__all__ = ["Approvals", "Duty", "Identity", "policy_identity", "read_token"]
