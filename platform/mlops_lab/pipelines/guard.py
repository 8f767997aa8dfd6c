"""The guard: looks at the canary every two seconds, takes its share away once harm is proven or time is up, and says when it has passed.

It runs in the watcher, between two messages and while there are none. What takes long delays it by as much: closing a week some seconds,
the first idle moment some ten, since a framework is imported then. A dead guard aborts nothing, which is why each replica stops dealing to
a canary whose line is older than a lease, and why the guard's deadline is shorter than that. All it knows it reads from the replicas'
prediction logs and the ledger, so a restarted guard knows the same, except for what was shipped and deleted meanwhile; with less evidence
it decides later, not otherwise.
"""

import logging
import time
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from mlops_lab.bootstrap import Lab
from mlops_lab.bootstrap.identities import PLATFORM
from mlops_lab.errors import LabError, LostTheRace
from mlops_lab.events import Message
from mlops_lab.governance.approval import policy_identity
from mlops_lab.monitoring.canary import CanaryLimits, Cause, Outcome, Verdict, judge_canary
from mlops_lab.monitoring.trial import Evidence, Trial
from mlops_lab.registry.ledger import ROLLBACK, Fact, barred
from mlops_lab.registry.version import Assignment, Role
from mlops_lab.serving.prediction_log import Damage, Position, read_frames
from mlops_lab.serving.segments import log_name, segment_numbers, segment_path

TRIAL = "trial"
"""Kind of the fact that tells how a canary's trial went; its subject is the id of the assignment that gave the share."""

_ABORTED = "canary aborted"
_CLOCK_STEP = timedelta(minutes=15)

log = logging.getLogger(__name__)


class CanaryGuard:
    """Watches the canary of one home. Cheap while there is none: one look at the ledger."""

    def __init__(self, lab: Lab, limits: CanaryLimits | None = None) -> None:
        """Args:
        lab: The home.
        limits: Other ones than those of the settings, for a drill.
        """
        self._lab = lab
        self._limits = limits or lab.canary_limits
        self._watched: Watched | None = None
        self._settled: int | None = None

    def step(self) -> Verdict | None:
        """Look once and act on it; the verdict, or None where there is no canary.

        Raises:
            RegistryUnreachable: The ledger does not answer; nothing was done.
        """
        line = self._lab.ledger.current(Role.CANARY)
        if line is None or line.version is None:
            self._watched = None
            self._settle(line)
            return None
        champion = self._lab.ledger.current(Role.CHAMPION)
        if champion is None or champion.version is None:
            self._take_away(line, PLATFORM, "there is no champion to compare it with")
            return None
        verdict = self._look(line)
        if verdict.outcome == Outcome.PASSED:
            self._keep_pass(line, verdict)
        elif verdict.outcome == Outcome.ABORT and not (verdict.cause in (Cause.NO_DATA, Cause.INCONCLUSIVE) and self.has_passed(line)):
            self._abort(line, verdict)
        return verdict

    def look(self) -> tuple[Assignment, Verdict] | None:
        """Look once and change nothing; None where there is no canary."""
        line = self._lab.ledger.current(Role.CANARY)
        return None if line is None or line.version is None else (line, self._look(line))

    def has_passed(self, line: Assignment) -> bool:
        """Whether the trial that a line began has passed beside the present champion. It stays watched for harm; its deadline is met."""
        champion = self._lab.ledger.current(Role.CHAMPION)
        beside = champion.version if champion else None
        facts = self._lab.ledger.facts(TRIAL, str(line.id))
        return any((fact.body["outcome"], fact.body.get("champion")) == (Outcome.PASSED, beside) for fact in facts)

    def _look(self, line: Assignment) -> Verdict:
        champion = self._lab.ledger.champion()
        if self._watched is None or (self._watched.line.id, self._watched.champion) != (line.id, champion.version):
            since = max(line.recorded_at, champion.recorded_at)
            self._watched = Watched(line, champion.version, self._lab.clock.now(), since)
        watched = self._watched
        watched.read(self._lab.logs_of_replicas)
        return judge_canary(watched.evidence, watched.elapsed_s, self._limits)

    def _abort(self, line: Assignment, verdict: Verdict) -> None:
        """Take the share away first: it is what helps the clients. What is recorded after it is made up for by `_settle`, should this
        process die in between."""
        by = policy_identity(self._limits.digest()).name
        away = self._take_away(line, by, f"{_ABORTED}, {verdict.cause}: {verdict.because}")
        if away is not None:
            self._record_abort(line, away, verdict.to_dict())

    def _take_away(self, line: Assignment, by: str, why: str) -> Assignment | None:
        """None where somebody else changed the canary meanwhile: then nothing is done."""
        try:
            away = self._lab.ledger.assign(
                Role.CANARY, None, replacing=line.id, kind=ROLLBACK, by=by, why=why, at=self._event_time(), weight=0.0
            )
        except LostTheRace:
            log.info("canary.changed_meanwhile", extra={"version": line.version, "assignment": line.id})
            return None
        self._watched = None
        log.warning("canary.taken_away", extra={"version": line.version, "why": why})
        return away

    def _record_abort(self, line: Assignment, away: Assignment, found: dict[str, Any]) -> None:
        cause, because = Cause(found["cause"]), str(found["because"])
        body = self._about(line) | found
        told = Message("CanaryAborted", away.at, self._lab.model, {"version": line.version, "assignment": line.id, "cause": str(cause)})
        self._lab.ledger.record(TRIAL, str(line.id), body, at=away.at, by=away.by, why=because, emit=(told,))
        assert line.version is not None
        if cause.bars and line.version not in barred(self._lab.ledger.facts(subject=str(line.version))):
            self._lab.ledger.bar(line.version, away.why, away.at, away.by)
        self._settled = away.id

    def _settle(self, away: Assignment | None) -> None:
        """Record what a guard that died between taking the share away and saying so had left to say."""
        if away is None or away.id == self._settled or away.replaces is None or not away.why.startswith(_ABORTED):
            return
        line = next(each for each in self._lab.ledger.assignments() if each.id == away.replaces)
        told = [fact.body for fact in self._lab.ledger.facts(TRIAL, str(line.id)) if fact.body["outcome"] == Outcome.ABORT]
        cause, because = away.why.removeprefix(f"{_ABORTED}, ").split(": ", 1)
        said = {"outcome": str(Outcome.ABORT), "cause": cause, "because": because, "figures": None}
        self._record_abort(line, away, dict(told[-1]) if told else said)  # telling the same again changes nothing

    def _keep_pass(self, line: Assignment, verdict: Verdict) -> None:
        if self.has_passed(line):
            return
        at = self._event_time()
        told = Message("CanaryPassed", at, self._lab.model, {"version": line.version, "assignment": line.id})
        by = policy_identity(self._limits.digest()).name
        body = self._about(line) | verdict.to_dict()
        self._lab.ledger.record(TRIAL, str(line.id), body, at=at, by=by, why=verdict.because, emit=(told,))
        log.info("canary.passed", extra={"version": line.version, "requests": verdict.figures.requests})

    def _about(self, line: Assignment) -> dict[str, Any]:
        champion = self._lab.ledger.current(Role.CHAMPION)
        return {
            "assignment": line.id,
            "version": line.version,
            "champion": champion.version if champion else None,
            "weight": line.weight,
            "limits": asdict(self._limits),
        }

    def _event_time(self) -> datetime:
        """As far as the ledger has come: a trial runs on wall time and moves no event time."""
        return max(line.at for line in self._lab.ledger.assignments())


def last_trial(lab: Lab) -> Fact | None:
    """The newest fact about a trial; None where there was none."""
    return max(lab.ledger.facts(TRIAL), key=lambda fact: fact.id, default=None)


class Watched:
    """One trial: what was read of it, and how far.

    Only what was scored beside the present champion counts; if the champion changes, the trial begins anew, its deadline too.
    """

    def __init__(self, line: Assignment, champion: int | None, now: datetime, since: datetime | None = None) -> None:
        self.line = line
        self.champion = champion
        self.evidence = Evidence()
        self._positions: dict[str, Position] = {}
        self._elapsed_before_s = max((now - (since or line.recorded_at)).total_seconds(), 0.0)
        self._seen_at = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        """Since the share was given, or the champion came. From the first look on it is measured by a clock that nobody sets."""
        return self._elapsed_before_s + time.monotonic() - self._seen_at

    def read(self, logs: list[tuple[str, Path]]) -> None:
        """Take in what the replicas have logged since the last time. All replicas count together, in the order of their answers."""
        found: list[tuple[str, Trial]] = []
        for replica, directory in logs:
            try:
                name = log_name(replica, directory)
                after = self._positions.get(name) or self._start(directory)
                for position, frame in read_frames(directory, after, on_damage=_tell_damage):
                    self._positions[name] = position
                    trial = self._trial_in(frame)
                    if trial is not None:
                        found.append((str(frame["answered_at"]), trial))
            except FileNotFoundError:
                continue  # shipped and deleted between two looks: the next one begins behind it
            except (LabError, LookupError, TypeError, ValueError) as error:
                log.warning("canary.log_unreadable", extra={"replica": replica, "why": str(error)})
        for _, trial in sorted(found, key=lambda each: each[0]):
            self.evidence.add(trial)

    def _start(self, directory: Path) -> Position:
        """Before the first segment that was written to since the share was given; a clock that was set back costs some reading."""
        since = (self.line.recorded_at - _CLOCK_STEP).timestamp()
        for number in segment_numbers(directory):
            if segment_path(directory, number).stat().st_mtime >= since:
                return Position(number, 0)
        return Position(max(segment_numbers(directory), default=0), 0)

    def _trial_in(self, frame: dict[str, Any]) -> Trial | None:
        said = frame.get("trial") if frame.get("kind") == "predictions" else None
        if said is None or (said["assignment"], said["champion"]) != (self.line.id, self.champion):
            return None
        error = said["error"] is not None
        canary = [] if error else [float(row["probability"]) for row in frame["rows"]]
        took = None if said["canary_us"] is None else float(said["canary_us"])
        champion = [float(each) for each in said["champion_probabilities"]]
        return Trial(error, took, float(said["champion_us"]), canary, champion, bool(said["canary_first"]))


def _tell_damage(damage: Damage) -> None:
    """What cannot be read is no evidence, and what comes after it is. The shipper puts it on the record."""
    log.warning("canary.log_damaged", extra={"segment": damage.path.name, "bytes": damage.size, "why": damage.why})
