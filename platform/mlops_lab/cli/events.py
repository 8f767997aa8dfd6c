"""`lab events`: what travels on the bus, for people."""

from pathlib import Path

import click

from mlops_lab.cli.events_dead import dead
from mlops_lab.cli.events_log import tail
from mlops_lab.cli.events_replay import replay
from mlops_lab.cli.events_topics import topics
from mlops_lab.cli.output import Output


@click.group("events", invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """See what travels on the event bus: topics, events as they come, what could not be worked on, and what events have to be.

    Without a word behind it: the topics.
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(topics)


@command.command
@click.argument("name", metavar="[TYPE]", required=False)
@click.option("--write", "folder", type=click.Path(path_type=Path), help="Write the schemas of all types into this folder, as published.")
@click.pass_obj
def schemas(output: Output, name: str | None, folder: Path | None) -> None:
    """List the types of events, or print one's schema.

    It is the JSON Schema of the event's data. With --write: publish all. A version that is published never changes its meaning, and a
    new one only adds optional fields; anything else is refused.
    """
    from mlops_lab.bootstrap import Lab
    from mlops_lab.settings import load_settings

    types = Lab(load_settings()).event_types
    if folder is not None:
        from mlops_lab.events.published import publish

        files = publish(types, folder)
        output.say(f"{len(files)} schemas were written to {folder}." if files else f"{folder} has them all; nothing changed.")
        output.result({"written": files})
        return
    if name is not None:
        import json

        schema = types.named(name).json_schema()
        if not output.as_json:
            output.say(json.dumps(schema, indent=2, ensure_ascii=False))
        output.result(schema)
        return
    output.table(
        ["type", "version", "topic", "keyed by", "meaning"],
        [[each.name, each.version, each.topic, each.key.says, each.meaning] for each in types],
    )
    output.say("`lab events schemas TYPE` prints the JSON Schema of one.")
    shown = [{"type": t.name, "version": t.version, "topic": t.topic, "subject": t.subject.says, "key": t.key.says} for t in types]
    output.result({"types": [row | {"meaning": each.meaning} for row, each in zip(shown, types, strict=True)]})


command.add_command(topics)
command.add_command(tail)
command.add_command(replay)
command.add_command(dead)
