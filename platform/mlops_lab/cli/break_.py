"""`lab break`: a fault on purpose, and what the platform does about it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from mlops_lab.cli.chronicle import Line
from mlops_lab.cli.opened import open_lab, shown
from mlops_lab.cli.output import Output
from mlops_lab.errors import LabError, UsageError

if TYPE_CHECKING:
    from mlops_lab.bootstrap import Lab
    from mlops_lab.flights.faults import Fault
    from mlops_lab.replay.faults import ActiveFault


@click.command
@click.argument("name", required=False)
@click.option("--weeks", type=click.IntRange(min=1), default=6, show_default=True, help="Weeks to play at most.")
@click.option("--no-replay", is_flag=True, help="Only switch it on; the next `lab replay` plays with it.")
@click.option("--list", "listing", is_flag=True, help="List the faults, and which are on.")
@click.option("--clear", is_flag=True, help="Switch NAME off, or all faults, from the present event time on.")
@click.pass_context
def command(ctx: click.Context, name: str | None, weeks: int, no_replay: bool, listing: bool, clear: bool) -> None:
    """Let the fault NAME loose at the present event time, and play weeks until the platform has decided about it.

    \b
    lab break                  list the faults
    lab break concept-shift    the world changes: it has to notice, retrain, and swap
    lab break unit-change      a feed breaks: it has to page somebody, and train nothing
    lab break --clear          end it; what it did to the past stays

    Shows each week's decision, the order, the version and the change of champion as they fall. After a retraining whose challenger the
    judge refused it plays on, up to --weeks. Leaves with 1 when the expected decision did not fall. Needs the services: `lab up`.
    """
    output = ctx.ensure_object(Output)
    from mlops_lab.flights.faults import fault_called

    fault = fault_called(name) if name else None
    if sum((listing, clear, no_replay)) > 1 or (no_replay and fault is None):
        raise UsageError("Which of these?", "give a NAME, or --list, or --clear with or without a NAME; see `lab break --help`.")
    if clear:
        _clear(output, name)
    elif listing or fault is None:
        _list(output)
    elif no_replay:
        lab = open_lab()
        started = _start(output, lab, fault)
        output.say("Next: `lab replay` plays with it.")
        output.result({"fault": fault.name, "since": started.since, "faults": _faults(lab)})
    else:
        ctx.exit(0 if _watch_it(output, open_lab(), fault, weeks) else 1)


def _watch_it(output: Output, lab: "Lab", fault: "Fault", weeks: int) -> bool:
    """Start a fault, play, and tell; whether the expected decision fell."""
    from mlops_lab.cli.player import Player

    with Player(output, lab) as player:  # says what is missing before anything is switched on
        started = _start(output, lab, fault)
        before = lab.ledger.champion()
        played: list[dict[str, object]] = []
        try:
            while len(played) < weeks and not _over(player.chronicle.new, fault):
                played.append(player.week())
        except (KeyboardInterrupt, LabError):
            output.say(f"{_stays_on(fault)} `lab replay` goes on with it.")
            raise
        after = lab.ledger.champion()
        happened = player.chronicle.new
    met = _fell(happened, fault)
    trained = [line.subject for line in happened if line.what == "version"]
    if met:
        output.say(f"After {_weeks(len(played))}: '{fault.ends_in}', as promised. {fault.promise}")
    else:
        output.say(f"In {_weeks(len(played))} no week ended in '{fault.ends_in}'. Next: `lab watch` shows why; `lab replay` goes on.")
    output.say(f"Trained: {', '.join(trained) or 'nothing'}. " + _champions(before.version, after.version))
    output.say(_stays_on(fault))
    output.result(
        {"fault": fault.name, "since": started.since, "expected": fault.ends_in, "met": met, "weeks": played, "trained": trained}
        | {"champion_before": before.version, "champion_after": after.version}
    )
    return met


def _stays_on(fault: "Fault") -> str:
    return f"The fault stays on. Next: `lab break --clear {fault.name}` ends it."


def _weeks(count: int) -> str:
    return "1 week" if count == 1 else f"{count} weeks"


def _champions(before: int | None, after: int | None) -> str:
    return f"Version {after} serves, as before." if before == after else f"Version {after} serves now, version {before} did before."


def _fell(happened: Sequence[Line], fault: "Fault") -> bool:
    """Whether a week ended in the decision that the fault is expected to end in."""
    return any(line.what == f"week {fault.ends_in}" for line in happened)


def _over(happened: Sequence[Line], fault: "Fault") -> bool:
    """Whether nothing more is to be awaited. A retraining whose challenger was refused is not the end: with more weeks of the new
    world behind it, the next one may be better."""
    return _fell(happened, fault) and (fault.ends_in != "retrain" or any(line.what == "new champion" for line in happened))


def _start(output: Output, lab: "Lab", fault: "Fault") -> "ActiveFault":
    from mlops_lab.replay.session import Session

    session = Session(lab, lambda _: None)
    since = session.reached()
    session.journal.close()
    started = session.faults.start(fault.name, since)
    output.say(f"{fault.name} is on since {shown(started.since)}: {fault.meaning}")
    output.say(f"Promised: {fault.promise}")
    return started


def _clear(output: Output, name: str | None) -> None:
    from mlops_lab.replay.session import Session

    lab = open_lab()
    session = Session(lab, lambda _: None)
    at = session.reached()
    session.journal.close()
    gone = session.faults.clear(name, at=at)
    said = f"{', '.join(gone)} ended at {shown(at)}." if gone else "Nothing was on."
    output.say(said)
    output.result({"cleared": gone, "at": at})


def _faults(lab: "Lab") -> "list[ActiveFault]":
    from mlops_lab.replay.faults import Faults

    return Faults(lab.home).active()


def _list(output: Output) -> None:
    from mlops_lab.flights.faults import CATALOGUE
    from mlops_lab.replay.faults import Faults
    from mlops_lab.settings import load_settings

    on = {fault.name: fault.since for fault in Faults(load_settings().home).active()}
    output.table(
        ["fault", "on since", "what happens", "what the platform promises"],
        [[fault.name, shown(on[fault.name]) if fault.name in on else None, fault.meaning, fault.promise] for fault in CATALOGUE.values()],
    )
    output.say("Next: `lab break NAME` starts one and plays until the platform has decided about it.")
    output.say("Faults of the service itself (kill, full disk, lost ledger, bad canary, ...): `lab chaos --list`.")
    faults = [
        {"name": f.name, "since": on.get(f.name), "meaning": f.meaning, "promise": f.promise, "ends_in": f.ends_in}
        for f in CATALOGUE.values()
    ]
    output.result({"faults": faults})
