"""`lab canary`: a challenger answers a share of the requests, and is taken away by itself when it does harm."""

from typing import TYPE_CHECKING

import click

from mlops_lab.cli.opened import identity, open_lab, present, runs, shown
from mlops_lab.cli.output import Output
from mlops_lab.errors import ApprovalRefused, UsageError

if TYPE_CHECKING:
    from mlops_lab.bootstrap import Lab
    from mlops_lab.monitoring.canary import CanaryLimits, Verdict
    from mlops_lab.monitoring.sequence import Bounds
    from mlops_lab.registry.version import Assignment


@click.command
@click.argument("what", metavar="[PERCENT|off|promote]", required=False)
@click.option("--version", type=click.IntRange(min=1), help="Default: the newest that the judge was for, or with --override the newest.")
@click.option("--as", "name", metavar="NAME", help="Whose token to use, from the home's keys. Default: operator; to promote: approver.")
@click.option("--why", metavar="TEXT", help="A sentence for the record. Needed for an override.")
@click.option("--override", is_flag=True, help="Try a version that the judge was not for. It is on the record.")
@click.pass_obj
def command(output: Output, what: str | None, version: int | None, name: str | None, why: str | None, override: bool) -> None:
    """Give the newest challenger PERCENT of the requests (0.1 to 100, in steps of 0.1), end its trial (off), or let it win (promote).

    Without an argument: how the trial stands. Each request that the canary answers is scored by the champion too, so they are compared in
    pairs. The watcher takes the share away by itself when errors, latency or scores are proven to lie beyond their limits, and when the
    time is up without proof that they do not. Who errs or answers otherwise is barred; passing promotes nobody by itself.
    """
    lab = open_lab()
    if what is None:
        if version is not None or override:
            raise UsageError("--version and --override need a percentage.", "write it like `lab canary 10 --version 3`.")
        _show(output, lab)
    elif what == "off":
        _end(output, lab, name, why)
    elif what == "promote":
        _promote(output, lab, name, why)
    else:
        _begin(output, lab, _share(what), version, name, why, override)


def _share(text: str) -> float:
    try:
        return float(text.removesuffix("%")) / 100
    except ValueError:
        raise UsageError(f"'{text}' is neither a percentage, nor 'off', nor 'promote'.", "write `lab canary 10` for ten percent.") from None


def _operator(lab: "Lab", name: str | None) -> str:
    who, _ = identity(lab, name, "operator")
    if who.role != "operator":
        raise ApprovalRefused(f"'{who.name}' is {who.role}, not operator, and may not change the canary.", "have an operator do it.")
    return who.name


def _begin(output: Output, lab: "Lab", share: float, version: int | None, name: str | None, why: str | None, override: bool) -> None:
    from mlops_lab.bootstrap.services import INFERENCE, WATCHER
    from mlops_lab.pipelines.canary import begin, newest_challenger

    if override and not why:
        raise UsageError("An override needs a reason.", "say it with --why.")
    by = _operator(lab, name)
    line = begin(version or newest_challenger(lab, judged=not override), share, present(lab), by, lab, why=why, override=override)
    output.say(f"Version {line.version} answers {line.weight:.1%} of the requests, as of {shown(line.at)}, by {line.by}: {line.why}")
    for service, loss in ((INFERENCE, "there are no requests"), (WATCHER, "nobody watches it")):
        if not runs(lab, service):
            output.say(f"The {service} does not run, so {loss}. Next: `lab up`.")
    output.result({"version": line.version, "assignment": line})


def _end(output: Output, lab: "Lab", name: str | None, why: str | None) -> None:
    from mlops_lab.pipelines.canary import end, running

    by = _operator(lab, name)
    line = running(lab)
    end(present(lab), by, why or "ended by hand", lab)
    output.say(f"Version {line.version} is no canary any more; its state is '{lab.ledger.state(line.version or 0)}'.")
    output.result({"version": line.version, "ended": True})


def _promote(output: Output, lab: "Lab", name: str | None, why: str | None) -> None:
    from mlops_lab.cli.promote import followed
    from mlops_lab.pipelines.canary import promote_canary, require_passed, running

    line = running(lab)
    require_passed(line, lab)
    assert line.version is not None
    at = present(lab)
    who, token = identity(lab, name, "approver")
    lab.approvals.approve(line.version, token, why or "its trial passed", at)
    given = promote_canary(line, at, who.name, lab, why=why)
    output.say(
        f"Version {given.version} takes the traffic from version {given.from_version}, as of {shown(at)}, by {who.name}: {given.why}"
    )
    followed(output, lab)
    output.result({"version": given.version, "assignment": given})


def _show(output: Output, lab: "Lab") -> None:
    from mlops_lab.pipelines.guard import CanaryGuard, last_trial

    guard = CanaryGuard(lab)
    found = guard.look()
    if found is None:
        last = last_trial(lab)
        output.say("No canary runs. `lab canary 10` gives the newest challenger ten percent of the requests.")
        if last is not None:
            output.say(f"The last trial, of version {last.body['version']}: {last.body['outcome']}, {last.why}.")
        output.result({"running": False, "last": None if last is None else last.body})
        return
    line, verdict = found
    passed = guard.has_passed(line)
    _tell(output, lab.canary_limits, line, verdict, passed)
    left_s = max(lab.canary_limits.deadline_s - verdict.elapsed_s, 0.0)
    about = {"running": True, "version": line.version, "share": line.weight, "assignment": line, "passed": passed}
    output.result(about | {"seconds_left": None if passed else round(left_s, 1), "verdict": verdict.to_dict()})


def _tell(output: Output, limits: "CanaryLimits", line: "Assignment", verdict: "Verdict", passed: bool) -> None:
    figures = verdict.figures
    left_s = max(limits.deadline_s - verdict.elapsed_s, 0.0)
    until = "passed, stays watched" if passed else f"{left_s:.0f} s left"
    output.say(
        f"Version {line.version} on {line.weight:.1%} of the requests: {figures.requests} so far, {verdict.elapsed_s:.0f} s, {until}."
    )
    rows = (
        ("error rate", figures.error_rate, limits.error_rate),
        ("latency ratio", figures.latency_ratio, limits.latency_ratio),
        ("score shift", figures.score_shift, limits.score_shift),
        ("score distance", figures.score_distance, limits.score_distance),
    )
    output.table(["", "found", "at least", "at most", "limit"], [[name, *_cells(bounds), limit] for name, bounds, limit in rows])
    output.say(f"Verdict so far: {verdict.outcome}; {verdict.because}.")
    if passed:
        output.say("Next: `lab canary promote`, as somebody who did not order it.")


def _cells(bounds: "Bounds") -> list[float | None]:
    return [value if abs(value) < 1e9 else None for value in (bounds.estimate, bounds.low, bounds.high)]  # NaN fails it, too
