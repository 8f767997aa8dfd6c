"""When to train again: one decision per closed window, by a frozen policy, from what monitoring measured."""

from mlops_lab.retraining.cooldown import Orders
from mlops_lab.retraining.decision import Decision, Outcome, Probation, WindowFacts, decide
from mlops_lab.retraining.policy import Policy
from mlops_lab.retraining.record import from_record, to_record
from mlops_lab.retraining.report import PolicyReport, policy_report

__all__ = [
    "Decision",
    "Orders",
    "Outcome",
    "Policy",
    "PolicyReport",
    "Probation",
    "WindowFacts",
    "decide",
    "from_record",
    "policy_report",
    "to_record",
]
