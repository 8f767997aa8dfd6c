"""`lab status`: which services run, where, and since when."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from mlops_lab.cli.output import Output
from mlops_lab.cli.parts import show_parts
from mlops_lab.cli.supervised import supervised
from mlops_lab.embedded import State, Status

if TYPE_CHECKING:
    from mlops_lab.bootstrap.parts import Part
    from mlops_lab.pipelines.backlog import Backlog

MIB = 1024 * 1024
_ADVICE = {
    State.DEAD: "A dead service says why at the end of its log. Next: `lab up` starts it again.",
    State.STARTING: "A service that stays 'starting' does not answer. Next: read its log.",
    State.STOPPED: "Next: `lab up` starts what is stopped.",
}


@click.command
@click.pass_obj
def command(output: Output) -> None:
    """Show which services run, where, and since when, what of the prediction logs is not shipped, and whether bus and store answer.

    Nothing is started or stopped.

    running: it answers. starting: it lives and does not answer yet. dead: it was started and is gone. stopped: it was not started.
    In a container of the stack, where other containers cannot be seen, each part is asked instead.
    """
    from mlops_lab.bootstrap import Lab  # late: `lab status --help` needs no settings
    from mlops_lab.bootstrap.inside import parts_inside
    from mlops_lab.bootstrap.parts import parts_of
    from mlops_lab.bootstrap.running import is_inside
    from mlops_lab.pipelines.backlog import backlog
    from mlops_lab.settings import load_settings

    settings = load_settings()
    if is_inside(settings):
        lab = Lab(settings)
        show(output, (), backlog(lab), parts_inside(lab))
        return
    supervisor, services = supervised()
    show(output, supervisor.status(services), backlog(Lab(settings)), parts_of(settings))


def show(output: Output, found: Sequence[Status], logs: Sequence["Backlog"] = (), parts: Sequence["Part"] = ()) -> None:
    """Print the state of services, of the replicas' prediction logs, and of bus and store; then what to do about the worst of it."""
    if found:
        output.table(
            ["service", "state", "address", "pid", "since (UTC)", "log"],
            [[s.name, s.state, s.address or None, s.pid or None, s.since, s.log] for s in found],
        )
    if logs:
        output.table(
            ["prediction log of", "MiB", "not shipped MiB", "since (UTC)", "set aside files"],
            [[one.replica, one.size_bytes / MIB, one.unshipped_bytes / MIB, one.unshipped_since, one.aside] for one in logs],
        )
    if parts:
        show_parts(output, parts)
    states = {status.state for status in found}
    advice = next((text for state, text in _ADVICE.items() if state in states), None)
    if advice is not None and not output.as_json:
        output.say(advice)
    output.result({"services": list(found), "logs": list(logs), "parts": [part._asdict() for part in parts]})
