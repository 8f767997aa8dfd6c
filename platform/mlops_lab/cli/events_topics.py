"""`lab events topics`: what is on the bus, and who has read how far."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from mlops_lab.cli.events_bus import open_bus
from mlops_lab.cli.output import Output
from mlops_lab.events.topics import DAY_S, TOPICS, Topic

if TYPE_CHECKING:
    from mlops_lab.bootstrap import Lab
    from mlops_lab.events.on_kafka_topics import TopicOnBroker


@click.command
@click.option("--create", is_flag=True, help="Make the topics that are missing on the broker.")
@click.pass_obj
def topics(output: Output, create: bool = False) -> None:
    """List the topics.

    What each is keyed by, how many events came, how many of them are dead letters, and how far behind each reader is.
    """
    lab = open_bus()
    # First: the broker may not answer, and then this is what one wants to know.
    waiting = dict(lab.bus.waiting())
    if waiting:
        listed = ", ".join(f"{count:,} of {name}" for name, count in sorted(waiting.items()))
        output.say(f"Waiting in this home for the broker to take them: {listed}. They go on by themselves while `lab up` runs.")
    made, missing, differs = _on_broker(output, lab, create)
    unusable = {*missing, *(name for name, what, _, _ in differs if what == "partitions")}
    rows = [_row(lab, topic) for topic in TOPICS.values() if not {topic.name, topic.dead} & unusable]
    if rows:
        output.table(
            ["topic", "keyed by", "partitions", "kept", "events so far", "dead letters", "behind"],
            [[r["topic"], r["key"], r["partitions"], r["kept"], r["events"], r["dead"], _behind(r["readers"])] for r in rows],
        )
    for name, what, found, wanted in differs:
        output.say(f"'{name}' has {what} {found} on the broker, and {wanted} in the table.")
    with_dead = [row["topic"] for row in rows if row["dead"]]
    if unusable - set(missing):
        output.say("Next: make what has other partitions anew when what it holds may go, or work under another LAB_EVENTS__PREFIX.")
    elif missing:
        output.say(f"Missing on the broker: {', '.join(missing)}. Next: `lab events topics --create`.")
    elif with_dead:
        output.say(f"Next: `lab events dead {with_dead[0]}` shows what could not be worked on, and why.")
    elif not any(row["events"] for row in rows):
        output.say("Nothing was published yet. Next: `lab replay`, which lets flights depart and arrive.")
    told = [{"topic": name, "what": what, "found": found, "wanted": wanted} for name, what, found, wanted in differs]
    output.result({"topics": rows, "made": made, "missing": missing, "differs": told, "waiting": waiting})


def _on_broker(output: Output, lab: "Lab", create: bool) -> tuple[list[str], list[str], list[tuple[str, str, str, str]]]:
    """The topics that were made, those that are missing, and what is not as the table says: topic, setting, found, wanted."""
    if not _by_broker(lab):
        if create:
            output.say("The embedded bus makes a topic with its first event; there is nothing to create.")
        return [], [], []
    from mlops_lab.bootstrap.broker import broker_of
    from mlops_lab.events.on_kafka_topics import describe_topics, ensure_topics

    broker = broker_of(lab.settings.events)
    there: Sequence[TopicOnBroker] = ensure_topics(broker) if create else describe_topics(broker)
    made = [each.topic.name for each in there if each.made]
    if create:
        new = f"Made on Kafka at {broker.servers}, under the prefix '{broker.prefix}': {', '.join(made)}."
        output.say(new if made else f"All {len(there)} topics are on Kafka at {broker.servers}; nothing was made.")
    differs = [(each.topic.name, *found) for each in there for found in each.differs]
    return made, [each.topic.name for each in there if not each.partitions], differs


def _row(lab: "Lab", topic: Topic) -> dict[str, Any]:
    from mlops_lab.events.dead import dead_letters
    from mlops_lab.pipelines.readers import groups_of, lag

    bus = lab.bus
    partitions = bus.partitions(topic.name)
    return {
        "topic": topic.name,
        "meaning": topic.meaning,
        "key": topic.key,
        "partitions": partitions,
        "kept": _kept(topic) if _by_broker(lab) else "for ever",
        "events": sum(bus.head(topic.name, number) for number in range(partitions)),
        "dead": sum(lying.retried_at is None for lying in dead_letters(bus, topic.name)),
        "readers": {group: lag(bus, group, topic.name) for group in groups_of(lab, topic.name)},
    }


def _by_broker(lab: "Lab") -> bool:
    from mlops_lab.bootstrap.chosen import chosen

    return chosen(lab.settings).bus == "kafka"


def _kept(topic: Topic) -> str:
    if topic.compacted:
        return "newest per key"
    return "for ever" if topic.retention_s is None else f"{topic.retention_s // DAY_S} days"


def _behind(readers: dict[str, int]) -> str:
    return ", ".join(f"{group} {behind:,}" for group, behind in readers.items())
