"""`lab up`: start the services and wait until they answer."""

from typing import TYPE_CHECKING

import click

from mlops_lab.cli.output import Output
from mlops_lab.cli.parts import Parts, use
from mlops_lab.cli.promote import took_in
from mlops_lab.cli.status import show
from mlops_lab.cli.supervised import require_outside, supervised
from mlops_lab.errors import LabError

if TYPE_CHECKING:
    from mlops_lab.bootstrap.chosen import Chosen


@click.command
@click.option(
    "--replicas", metavar="N", type=click.IntRange(1, 16), help="Inference services beside each other, on ports from the first on."
)
@click.option(
    "--with",
    "parts",
    metavar="PARTS",
    type=Parts(),
    help="Use these parts from now on: kafka,redis or sqlite, say; `embedded` goes back. Brokers are given by settings.",
)
@click.option("--leave-behind", is_flag=True, help="With --with: change the bus without taking along what readers still need.")
@click.pass_obj
def command(output: Output, replicas: int | None, parts: "Chosen | None", leave_behind: bool) -> None:
    """Start the services of the embedded platform and wait until they answer.

    What already runs is left alone, so it does no harm to say it twice. The services keep running when this command ends:
    `lab down` stops them. With --replicas there are exactly so many inference services, each with its own log and cache; without it
    one, and those beside it that run already.

    --with is recorded in the home, so that every command and process there uses the same. Parts are checked before: topics that are missing
    are made, and what does not answer changes nothing. When the bus is changed, the last 36 hours of facts go along.
    """
    from mlops_lab.bootstrap import Lab
    from mlops_lab.bootstrap.founding import found
    from mlops_lab.bootstrap.services import is_replica
    from mlops_lab.registry.version import Role
    from mlops_lab.settings import load_settings

    settings = load_settings()
    require_outside(settings)
    if parts is not None:
        use(output, settings, parts, leave_behind)
    elif leave_behind:
        raise click.UsageError("--leave-behind belongs to --with.")
    lab = Lab(settings)
    found(lab)
    try:
        took_in(output, lab)
    except LabError as error:
        output.say(f"A local pin could not be taken into the ledger, and stays in force: {error.what}")
    supervisor, services = supervised(replicas or 1)
    if replicas is not None:
        wanted = {service.name for service in services}
        for status in supervisor.status():
            if is_replica(status.name) and status.name not in wanted and supervisor.stop(status.name):
                output.say(f"{status.name}: stopped")
    show(output, supervisor.up(services, output.say))
    if lab.ledger.current(Role.CHAMPION) is None:
        output.say("")
        output.say(
            "No model serves in this home yet. Next: `lab begin` makes the first (step by step: `lab ingest 2013-01`, then 02 and 03,"
        )
        output.say("`lab train`, `lab promote 1`), then `lab replay`; or `lab down` and `make demo` for the whole loop in one go.")
    else:
        output.say("")
        output.say("Next: `lab replay` lets a week go by, `lab break concept-shift` closes a runway, `lab down` stops everything.")
