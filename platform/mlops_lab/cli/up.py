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
    supervisor, services = supervised()
    show(output, supervisor.up(services, output.say))
