"""A new home: the signing key, the identities, the empty ledger. Doing it again changes nothing."""

from datetime import UTC, datetime

from mlops_lab.bootstrap.identities import APPROVER, FEEDBACK, OPERATOR, PLATFORM, TRAINER
from mlops_lab.bootstrap.lab import Lab
from mlops_lab.governance.approval import Duty
from mlops_lab.scoring.keys import signing_key

FOUNDED_AT = datetime(2013, 1, 1, tzinfo=UTC)
"""Event time of the first entries: the beginning of the data."""


def found(lab: Lab) -> None:
    """Make what every process of a home needs before it starts."""
    signing_key(lab.keys)
    for name, duty in ((TRAINER, Duty.TRAINER), (APPROVER, Duty.APPROVER), (OPERATOR, Duty.OPERATOR), (FEEDBACK, Duty.REPORTER)):
        lab.approvals.enrol(name, duty, at=FOUNDED_AT, by=PLATFORM)
