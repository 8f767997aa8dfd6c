"""F15: canaries that err, are slow, or answer otherwise, and healthy ones, which have to be let through. Each trial has a day of flights.

The versions are real: the champion knows January to July, the retrained one August too. From it come one whose baseline is shifted by
half a unit of log-odds, and one with so many more trees that scoring takes half as long again; an export without code cannot fail, so the
failing one is the retrained one with a fault of the service switched on. The guard looks as it does in the watcher, only more often.
"""

import dataclasses
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_lab.bootstrap.identities import OPERATOR
from mlops_lab.chaos.client import Client
from mlops_lab.chaos.fault import Fault, Finding, Size, few
from mlops_lab.chaos.history import Request, failures
from mlops_lab.chaos.load import Plan
from mlops_lab.chaos.replica import Replica, free_port
from mlops_lab.chaos.slower import slowed
from mlops_lab.chaos.world import Home, World
from mlops_lab.events import OBSERVATIONS
from mlops_lab.monitoring.canary import CanaryLimits, Cause, Outcome
from mlops_lab.pipelines.canary import begin, end
from mlops_lab.pipelines.guard import TRIAL, CanaryGuard
from mlops_lab.registry.version import Role
from mlops_lab.scoring.forest import Forest

if TYPE_CHECKING:
    from mlops_lab.flights.timeline import Timeline

HEALTHY, SHIFTED, SLOWER, FAILING = "healthy", "shifted", "slower", "failing"
WANTED: Mapping[str, Cause | None] = {HEALTHY: None, SHIFTED: Cause.SCORES, SLOWER: Cause.LATENCY, FAILING: Cause.ERRORS}

KNOWN_UNTIL, RETRAINED_UNTIL = datetime(2013, 8, 1, tzinfo=UTC), datetime(2013, 9, 1, tzinfo=UTC)
SHIFT = 0.5
ERROR_SHARE = 0.05
SHARE = 0.5
FOLLOWED_S = 2.0
"""Within so long a replica has to know what the ledger says."""

_LOOK_EVERY_S = 0.25
_LIMITS = CanaryLimits(min_s=2.0, deadline_s=60.0)


@dataclass(frozen=True, slots=True)
class Tried:
    """One trial, as the ledger tells it, and the moments by the clock that client and runner share.

    Attributes:
        kind: What was wrong with the canary.
        version: Its number.
        outcome: `abort`, `passed`, or `none` where the ledger tells of no end.
        cause: Of an abort.
        because: The sentence in the ledger.
        requests: Dealt to it before the verdict.
        seconds: From the line that gave the share to the one that says what became of it, by the ledger's own times.
        ended_ns: When it was over.
        answered: Answers by this version in the client's history.
        late: Of them, those to requests that were sent later than `FOLLOWED_S` after an abort.
    """

    kind: str
    version: int
    outcome: str
    cause: str | None
    because: str
    requests: int
    seconds: float
    ended_ns: int
    answered: int
    late: int


@dataclass(frozen=True)
class Trials:
    """The evidence: the trials, the requests that failed, and how many there were."""

    trials: Sequence[Tried]
    failed: Sequence[str]
    requests: int
    slowness: float


def run(world: World, seed: int, size: Size) -> Trials:
    """Try each kind on each day, one process for those that need no fault and one for those that do."""
    home, count = world.home(), size.of(1, 30)
    old, new, timeline = _made(home)
    slower, slowness = slowed(new, old, seed)
    home.promote(home.publish(old))
    versions = {HEALTHY: home.publish(new), SLOWER: home.publish(slower)}
    home.lab.bus.publish(OBSERVATIONS, timeline.warm_up(RETRAINED_UNTIL))
    tried: list[Tried] = []
    requests: list[Request] = []
    for name, kinds, errors in (("sound", (HEALTHY, SHIFTED, SLOWER), 0.0), ("failing", (FAILING,), ERROR_SHARE)):
        first = RETRAINED_UNTIL + timedelta(days=0 if name == "sound" else count)
        with _replica(home, name, errors) as replica:
            replica.start()
            for number in range(count):
                bodies = _day(home, timeline, first + timedelta(days=number))
                for kind in kinds:
                    version = versions.get(kind) or home.publish(_spoilt(new, kind, number))
                    with Client(_plan(home, replica, bodies, f"{kind}-{number}", seed)) as client:
                        client.await_answers()
                        one = _on_trial(home, version)
                        time.sleep(FOLLOWED_S + 0.3 if one.outcome == Outcome.ABORT else 0.0)
                    answers = client.requests()
                    requests += answers
                    tried.append(_seen(one, kind, answers))
            replica.end()
    return Trials(tried, failures(requests), len(requests), slowness)


def check(seen: Trials) -> Finding:
    """Of 30 trials of each kind 29 end as they have to, for the right reason; no client noticed any of them."""
    broken = list(seen.failed)
    told = []
    for kind, cause in WANTED.items():
        ours = [each for each in seen.trials if each.kind == kind]
        right = [each for each in ours if (each.outcome, each.cause) == _ending(cause)]
        allowed = len(ours) // 30
        if not ours or len(right) < len(ours) - allowed:
            ended = Counter(f"{each.outcome} {each.cause or ''}".strip() for each in ours if each not in right)
            broken.append(f"{kind}: {len(right)} of {len(ours)} ended as they have to; the others: {dict(ended)}")
        took = sorted(each.seconds for each in right)
        told.append(f"{kind} {len(right)}/{len(ours)} in {statistics.median(took):.1f} s (at most {took[-1]:.1f})" if took else f"{kind} 0")
    broken += [f"version {each.version} ({each.kind}) answered nobody, so nothing was tried" for each in seen.trials if not each.answered]
    broken += few([f"version {each.version} answered {each.late} requests long after its abort" for each in seen.trials if each.late])
    measured = f"{'; '.join(told)}; slower by {seen.slowness:.2f}; {seen.requests} requests, {len(seen.failed)} failed"
    return Finding(measured, tuple(broken))


F15 = Fault(
    id="F15",
    title="bad canary",
    does="Canaries that fail 5 % of the requests, take half as long again, or are shifted by half a unit of log-odds; and healthy ones.",
    promise="A bad canary loses its share by itself, a healthy one passes, and no client meets an error.",
    asked="found in ≥ 29 of 30 of each kind, ≤ 1 false abort in 30",
    run=run,
    check=check,
)


def _spoilt(forest: Forest, kind: str, number: int) -> Forest:
    """A version of its own for each trial, since what was found is barred."""
    shift = SHIFT if kind == SHIFTED else 0.0
    return dataclasses.replace(forest, baseline=forest.baseline + shift + (number + 1) * 1e-9)


def _made(home: Home) -> "tuple[Forest, Forest, Timeline]":
    """Champion, retrained, and what happens after both were trained. Half a minute."""
    from mlops_lab.flights.source import load  # late: pandas and scikit-learn are slow to import
    from mlops_lab.flights.timeline import Timeline
    from mlops_lab.flights.usecase import Flights

    lab = home.lab
    year, use_case = load(lab.settings.data), Flights(lab.settings.data)
    past = year.flights[year.flights["scheduled_departure"] < RETRAINED_UNTIL].reset_index(drop=True)
    rows = use_case.history({"flights": past, "weather": year.weather}, RETRAINED_UNTIL)
    old, new = (lab.trainer(use_case.recipe, rows.before(until)).forest() for until in (KNOWN_UNTIL, RETRAINED_UNTIL))
    return old, new, Timeline(year, seed=7)


def _day(home: Home, timeline: "Timeline", day: datetime) -> Path:
    """Let a day happen, and write down what is asked about it."""
    steps = list(timeline.steps(day, day + timedelta(days=1)))
    home.lab.bus.publish(OBSERVATIONS, [fact for step in steps for fact in step.facts])
    bodies = home.path / f"questions-{day:%m-%d}.jsonl"
    bodies.write_bytes(b"\n".join(body for step in steps for _, body in step.questions) + b"\n")
    return bodies


@contextmanager
def _replica(home: Home, name: str, errors: float) -> Iterator[Replica]:
    env = {"LAB_HOME": str(home.path), "LAB_SERVICE__REPLICA": name, "LAB_SERVICE__PORT": str(free_port())}
    env |= {"LAB_SERVICE__FOLLOW_S": "0.1", "LAB_FAULT__CANARY_ERROR_SHARE": str(errors)}
    with Replica(env, home.path / f"{name}.stderr") as replica:
        yield replica


def _plan(home: Home, replica: Replica, bodies: Path, name: str, seed: int) -> Plan:
    history = home.path / f"{name}.history.jsonl"
    return Plan((replica.port,), str(history), str(bodies), name, connections=4, seconds=90, pause_ms=2, seed=seed)


def _on_trial(home: Home, version: int) -> Tried:
    """Give it its share and look until the ledger says what became of it."""
    ledger, guard = home.lab.ledger, CanaryGuard(home.lab, _LIMITS)
    line = begin(version, SHARE, RETRAINED_UNTIL, OPERATOR, home.lab, why="a fault is tried", override=True)
    until = time.monotonic() + _LIMITS.deadline_s + 10
    while time.monotonic() < until and not ledger.facts(TRIAL, str(line.id)):
        guard.step()
        time.sleep(_LOOK_EVERY_S)
    ended_ns = time.monotonic_ns()
    told = ledger.facts(TRIAL, str(line.id))
    away = ledger.current(Role.CANARY)
    if away is not None and away.version is not None:
        end(RETRAINED_UNTIL, OPERATOR, "its trial is over", home.lab)
    if not told:
        return Tried("", version, "none", None, "the ledger tells of no end", 0, 0.0, ended_ns, 0, 0)
    body = told[-1].body
    seconds = (told[-1].recorded_at - line.recorded_at).total_seconds()
    requests = int(body["figures"]["requests"])
    return Tried("", version, body["outcome"], body["cause"], told[-1].why, requests, seconds, ended_ns, 0, 0)


def _seen(one: Tried, kind: str, history: Sequence[Request]) -> Tried:
    mine = [request for request in history if request.version == one.version]
    over_ns = one.ended_ns + int(FOLLOWED_S * 1e9)
    return dataclasses.replace(one, kind=kind, answered=len(mine), late=sum(request.sent_ns > over_ns for request in mine))


def _ending(cause: Cause | None) -> tuple[str, str | None]:
    return (str(Outcome.PASSED), None) if cause is None else (str(Outcome.ABORT), str(cause))
