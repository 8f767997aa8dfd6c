"""A challenger gets a share of the requests, loses it, or takes them all. The ledger decides; the guard watches (`guard.py`)."""

from datetime import datetime

from mlops_lab.bootstrap import Lab
from mlops_lab.errors import PromotionRefused, UsageError
from mlops_lab.pipelines.guard import CanaryGuard
from mlops_lab.pipelines.promote import promote
from mlops_lab.registry.ledger import OVERRIDE, PROMOTION, ROLLBACK
from mlops_lab.registry.version import Assignment, Role, State

CHALLENGING = (State.JUDGED, State.APPROVED)
_STEPS = 1000


def newest_challenger(lab: Lab, *, judged: bool = True) -> int:
    """The newest version that the judge was for and that neither serves nor was refused; or, for those who may overrule the judge, the
    newest that neither serves nor is barred. Raises PromotionRefused where there is none."""
    for version in reversed(lab.ledger.versions()):
        state = lab.ledger.state(version.number)
        if not judged and state not in (State.SERVING, State.BARRED):
            return version.number
        judgement = lab.ledger.judgement(version.number)
        if judged and judgement and judgement.get("outcome") == "promote" and state in CHALLENGING:
            return version.number
    if not judged:
        raise PromotionRefused(f"{lab.model} has no version beside the champion that is not barred.", "train one with `lab train`.")
    raise PromotionRefused(
        f"No version of {lab.model} is there that the judge was for and that does not serve already.",
        "`lab train` makes one, `lab judge N` judges it anew; or try one all the same with --override --why.",
    )


def running(lab: Lab) -> Assignment:
    """The line of the canary that runs. Raises UsageError where there is none."""
    line = lab.ledger.current(Role.CANARY)
    if line is None or line.version is None:
        raise UsageError("No canary runs.", "begin one with `lab canary 10`.")
    return line


def begin(version: int, share: float, at: datetime, by: str, lab: Lab, *, why: str | None = None, override: bool = False) -> Assignment:
    """Give a challenger a share of the requests. The share of a canary that runs may be changed, which begins its trial anew.

    Args:
        version: Its number.
        share: Above 0, at most 1, in steps of 0.001.
        at: Event time.
        by: Identity.
        lab: The home.
        why: A sentence; needed for an override.
        override: Force a version that the judge was not for.

    Raises:
        UnknownVersion: No such version.
        UsageError: The share is out of range or between two steps, or another canary runs.
        PromotionRefused: The version is the champion, barred, or not judged to be better than it.
        LostTheRace: Somebody else changed the canary meanwhile.
    """
    steps = share * _STEPS
    if not 0 < share <= 1 or abs(steps - round(steps)) > 1e-6:
        raise UsageError(f"{share:.4%} is no share for a canary.", "give a percentage from 0.1 to 100, in steps of 0.1.")
    lab.ledger.version(version)
    line = lab.ledger.current(Role.CANARY)
    if line is not None and line.version not in (None, version):
        raise UsageError(f"Version {line.version} is the canary already.", "wait for its verdict, or end it with `lab canary off`.")
    if not override:
        _require_judged(version, lab)
    return lab.ledger.assign(
        Role.CANARY,
        version,
        replacing=line.id if line else None,
        kind=OVERRIDE if override else PROMOTION,
        by=by,
        why=why or f"to be tried on {share:.1%} of the requests",
        at=at,
        weight=round(steps) / _STEPS,
    )


def end(at: datetime, by: str, why: str, lab: Lab) -> Assignment:
    """Take the canary's share away; the version stays what it was. Raises UsageError where none runs, LostTheRace."""
    line = running(lab)
    return lab.ledger.assign(Role.CANARY, None, replacing=line.id, kind=ROLLBACK, by=by, why=why, at=at, weight=0.0)


def promote_canary(line: Assignment, at: datetime, by: str, lab: Lab, *, why: str | None = None) -> Assignment:
    """Give the canary all requests, by the ordinary promotion, and end its trial.

    Raises:
        PromotionRefused: Its trial has not passed, nobody approved it, or what else `promote` refuses.
        LostTheRace: Another promotion came first.
    """
    require_passed(line, lab)
    assert line.version is not None
    given = promote(line.version, at, by, lab, why=why)
    left = lab.ledger.current(Role.CANARY)
    if left is not None and left.version == line.version:
        end(at, by, f"version {line.version} is the champion now", lab)
    return given


def require_passed(line: Assignment, lab: Lab) -> None:
    """Raises PromotionRefused unless the trial that a line began has passed."""
    if not CanaryGuard(lab).has_passed(line):
        raise PromotionRefused(
            f"The trial of version {line.version} has not passed.",
            "see what is open with `lab canary`; `lab promote` asks for no trial.",
        )


def _require_judged(version: int, lab: Lab) -> None:
    judgement = lab.ledger.judgement(version)
    if judgement is None:
        raise PromotionRefused(f"Nobody judged version {version}.", f"`lab judge {version}`, or force it with --override --why.")
    if judgement.get("outcome") != "promote":
        why = judgement.get("because") or "no reason given"
        raise PromotionRefused(f"The judge was not for version {version}: {why}.", "choose another one, or force it with --override --why.")
