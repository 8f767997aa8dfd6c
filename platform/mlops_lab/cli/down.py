"""`lab down`: stop the services of this home."""

import click

from mlops_lab.cli.output import Output
from mlops_lab.cli.supervised import supervised


@click.command
@click.pass_obj
def command(output: Output) -> None:
    """Stop all services of this home, and nothing else. State and logs stay where they are.

    Each is asked to end and waited for; one that does not end in time is killed.
    """
    supervisor, _ = supervised()
    stopped = supervisor.down(output.say)
    if not stopped:
        output.say(f"Nothing runs in {supervisor.home}.")
    output.result({"home": supervisor.home, "stopped": stopped})
