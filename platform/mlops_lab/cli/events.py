"""`lab events`: what travels on the bus, for people."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlops_lab.cli.events_bus import open_bus
from mlops_lab.cli.events_dead import dead
from mlops_lab.cli.events_log import tail
from mlops_lab.cli.events_replay import replay
from mlops_lab.cli.output import Output
from mlops_lab.events.topics import DAY_S, TOPICS, Topic

if TYPE_CHECKING:
    from mlops_lab.bootstrap import Lab


@click.group("events", invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """See what travels on the event bus: topics, events as they come, what could not be worked on, and what events have to be.

    Without a word behind it: the topics.
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(topics)


@command.command
@click.option("--create", is_flag=True, help="Make the topics that are missing on the broker.")
@click.pass_obj
def topics(output: Output, create: bool = False) -> None:
    """List the topics.

    What each is keyed by, how many events came, how many of them are dead letters, and how far behind each reader is.
    """
    lab = open_bus()
    if create:
        output.say("The embedded bus makes a topic with its first event; there is nothing to create.")
    rows = [_row(lab, topic) for topic in TOPICS.values()]
    output.table(
        ["topic", "keyed by", "partitions", "kept", "events so far", "dead letters", "behind"],
        [[r["topic"], r["key"], r["partitions"], r["kept"], r["events"], r["dead"], _behind(r["readers"])] for r in rows],
    )
    with_dead = [row["topic"] for row in rows if row["dead"]]
    if with_dead:
        output.say(f"Next: `lab events dead {with_dead[0]}` shows what could not be worked on, and why.")
    elif not any(row["events"] for row in rows):
        output.say("Nothing was published yet. Next: `lab replay`, which lets flights depart and arrive.")
    output.result({"topics": rows})


def _row(lab: "Lab", topic: Topic) -> dict[str, Any]:
    from mlops_lab.bootstrap.chosen import chosen
    from mlops_lab.events.dead import dead_letters
    from mlops_lab.pipelines.readers import groups_of, lag

    bus, on_broker = lab.bus, chosen(lab.settings).bus == "kafka"
    partitions = bus.partitions(topic.name)
    return {
        "topic": topic.name,
        "meaning": topic.meaning,
        "key": topic.key,
        "partitions": partitions,
        "kept": "for ever" if topic.retention_s is None or not on_broker else f"{topic.retention_s // DAY_S} days",
        "events": sum(bus.head(topic.name, number) for number in range(partitions)),
        "dead": sum(lying.retried_at is None for lying in dead_letters(bus, topic.name)),
        "readers": {group: lag(bus, group, topic.name) for group in groups_of(bus, topic.name)},
    }


def _behind(readers: dict[str, int]) -> str:
    return ", ".join(f"{group} {behind:,}" for group, behind in readers.items())


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


command.add_command(tail)
command.add_command(replay)
command.add_command(dead)
