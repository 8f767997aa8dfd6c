"""`lab doctor`: look for what usually goes wrong on a machine, and say what to do about it."""

import os
from collections.abc import Sequence

import click

from mlops_lab.cli import checks
from mlops_lab.cli.checks import Check, Health
from mlops_lab.cli.output import Output
from mlops_lab.errors import LabError


@click.command
@click.option("--settings", "list_settings", is_flag=True, help="List every setting instead: its variable and what it means.")
@click.pass_context
def command(ctx: click.Context, list_settings: bool) -> None:
    """Look for what usually goes wrong on a machine, and say what to do about it. Nothing is changed.

    Leaves with 1 when something will not work, with 0 when all is well or only worth a look.
    """
    output = ctx.ensure_object(Output)
    if list_settings:
        show_settings(output)
        return
    found = [checks.python(), checks.environment(), checks.memory(), checks.proxy(os.environ), *_of_this_home()]
    output.table(["check", "", "found"], [[check.name, check.health, check.found] for check in found])
    show_what_to_do(output, found)
    output.result({"checks": found, "healthy": all(check.health is not Health.FAIL for check in found)})
    ctx.exit(1 if any(check.health is Health.FAIL for check in found) else 0)


def show_settings(output: Output) -> None:
    """Every variable with what it means, and whether this shell sets it; no values, since one of them is a credential."""
    from mlops_lab.settings import names  # late: the doctor has to speak even where the settings library is missing

    known = names()
    output.table(["setting", "set here", "meaning"], [[name, name in os.environ, meaning] for name, meaning in known.items()])
    output.result({"settings": [{"name": name, "set": name in os.environ, "meaning": meaning} for name, meaning in known.items()]})


def show_what_to_do(output: Output, found: Sequence[Check]) -> None:
    """One line for each check that is not ok, the failed ones first; a sentence when there is none."""
    todo = sorted((check for check in found if check.next), key=lambda check: check.health is not Health.FAIL)
    for check in todo:
        output.say(f"{check.name}: {check.next}")
    if not todo:
        output.say("All is well. Next: `lab demo`.")


def _of_this_home() -> list[Check]:
    """The checks that need the settings; a wrong setting or an unreadable record is itself a finding."""
    try:
        from mlops_lab.bootstrap import Lab
        from mlops_lab.bootstrap.inside import parts_inside
        from mlops_lab.bootstrap.parts import parts_of
        from mlops_lab.bootstrap.running import is_inside
        from mlops_lab.cli.supervised import supervised  # late: a broken environment must not keep the doctor from speaking
        from mlops_lab.flights.fetch import FILES
        from mlops_lab.pipelines.backlog import backlog
        from mlops_lab.settings import load_settings

        settings = load_settings()
        lab = Lab(settings)
        inside = is_inside(settings)
        supervisor, services = (None, []) if inside else supervised()
        statuses = supervisor.status(services) if supervisor else []
        parts = parts_inside(lab) if inside else parts_of(settings)
    except ImportError as error:
        return [Check("settings", Health.FAIL, f"the platform cannot be imported: {error}", "run `make install`.")]
    except LabError as error:
        return [Check("settings", Health.FAIL, error.what, error.next_step)]
    return [
        checks.writable(lab.home),
        checks.disk(lab.home),
        checks.data(settings.data, FILES),
        *checks.servers(settings, lab.model),
        *checks.ports(services, statuses),
        checks.leftovers(statuses),
        *checks.parts(parts),
        checks.shipping(backlog(lab), lab.clock.now(), settings.service.log_limit_mib * checks.MIB),
    ]
