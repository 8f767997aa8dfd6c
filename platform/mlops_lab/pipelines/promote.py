"""A judged and approved version takes the traffic; a degraded one gives it back. The ledger decides, the alias follows."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from mlops_lab.bootstrap import Lab
from mlops_lab.bootstrap.identities import PLATFORM
from mlops_lab.errors import PromotionRefused
from mlops_lab.pipelines.traced import step
from mlops_lab.registry.version import Assignment, Role


def approve_by_policy(version: int, at: datetime, lab: Lab) -> None:
    """Approve a retrained challenger that the judge was for, in the name of the written policy."""
    lab.approvals.approve_by_policy(version, lab.policy.digest(), "a retraining by policy whose judgement is 'promote'", at)


@step("promote version")
def promote(version: int, at: datetime, by: str, lab: Lab, *, why: str | None = None, kind: str = "promotion") -> Assignment:
    """Give a version the traffic by compare-and-set on the assignment that stands now. Again changes nothing.

    Raises:
        PromotionRefused: It was not approved by somebody else, is barred, or was judged against another champion than the present one.
        LostTheRace: Another promotion came first.
    """
    current = lab.ledger.current(Role.CHAMPION)
    if current is not None and current.version == version:
        return current
    judgement = lab.ledger.judgement(version) or {}
    if kind == "promotion":
        _require_judged_against(current.version if current else None, version, judgement)
    reason = why or str(judgement.get("because") or "promoted")
    return lab.ledger.assign(Role.CHAMPION, version, replacing=current.id if current else None, kind=kind, by=by, why=reason, at=at)


def _require_judged_against(champion: int | None, version: int, judgement: Mapping[str, Any]) -> None:
    """A judgement says that a version is better than one other; about any third it says nothing. The compare-and-set that follows
    makes sure that the champion is still the one that was looked at here."""
    if "champion" not in judgement or judgement["champion"] == champion:
        return  # without a judgement there is no approval either, which the ledger refuses
    against = "nobody" if judgement["champion"] is None else f"version {judgement['champion']}"
    raise PromotionRefused(
        f"Version {version} was judged against {against}, but the champion is {'nobody' if champion is None else f'version {champion}'}.",
        f"judge it again with `lab judge {version}`, then promote it.",
    )


@step("roll back")
def roll_back(version: int, at: datetime, why: str, lab: Lab, *, by: str = PLATFORM, to: int | None = None) -> Assignment:
    """Take the traffic away from a version and bar it. Raises LostTheRace if it does not have it any more."""
    return lab.ledger.rollback(at, by, why, leaving=version, to=to)


def project_alias(lab: Lab) -> int | None:
    """Let MLflow's alias `champion` show what the ledger says, and tag each version with its state; returns the champion."""
    current = lab.ledger.current(Role.CHAMPION)
    number = current.version if current else None
    if lab.catalog.alias() != number:
        lab.catalog.project_alias(number)
    for version in lab.ledger.versions():
        state = str(lab.ledger.state(version.number))
        if lab.catalog.tags(version.number).get("state") != state:
            lab.catalog.tag(version.number, "state", state)
    return number
