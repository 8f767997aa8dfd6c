"""Who acts in a home: the names under which credentials are enrolled."""

TRAINER = "trainer"
"""Orders trainings."""

APPROVER = "approver"
"""Says yes to what somebody else ordered."""

OPERATOR = "operator"
"""Forces and takes back, on the record."""

FEEDBACK = "feedback"
"""Whoever reports outcomes: its token is what `/v1/feedback` wants."""

PLATFORM = "platform"
"""The platform itself, where no person and no written policy acted."""
