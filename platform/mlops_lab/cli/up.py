"""`lab up`: start the services and wait until they answer."""

import click

from mlops_lab.cli.output import Output
from mlops_lab.cli.status import show
from mlops_lab.cli.supervised import supervised


@click.command
@click.pass_obj
def command(output: Output) -> None:
    """Start the services of the embedded platform and wait until they answer.

    What already runs is left alone, so it does no harm to say it twice. The services keep running when this command ends:
    `lab down` stops them.
    """
    from mlops_lab.bootstrap import Lab
    from mlops_lab.bootstrap.founding import found
    from mlops_lab.registry.version import Role
    from mlops_lab.settings import load_settings

    lab = Lab(load_settings())
    found(lab)
    supervisor, services = supervised()
    show(output, supervisor.up(services, output.say))
    if lab.ledger.current(Role.CHAMPION) is None:
        output.say("")
        output.say("No model serves in this home yet. Next: `lab ingest 2013-01` (then 02 and 03), `lab train`,")
        output.say("`lab promote 1 --as approver`, `lab replay`; or `lab down` and `make demo` for the whole loop in one go.")
    else:
        output.say("")
        output.say("Next: `lab replay` lets a week go by, `lab break concept-shift` closes a runway, `lab down` stops everything.")
