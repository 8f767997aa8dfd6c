"""`lab events replay`: a reader takes events once more."""

from datetime import datetime

import click

from mlops_lab.cli.events_bus import known_topic, open_bus
from mlops_lab.cli.opened import MOMENT, runs, shown
from mlops_lab.cli.output import Output
from mlops_lab.errors import UnknownName, UsageError
from mlops_lab.events import Delivery, EventBus
from mlops_lab.events.reading import everything


class Place(click.ParamType[int | datetime]):
    """Where a group begins again: `start`, the offset of the first event, or an event time."""

    name = "place"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int | datetime:
        text = str(value).strip()
        if text == "start":
            return 1
        if text.isdigit():
            return max(1, int(text))
        try:
            return MOMENT.convert(text, param, ctx)
        except click.BadParameter:
            self.fail(f"'{value}' is no place; write start, an offset such as 1200, or an event time such as 2013-07-01", param, ctx)


@click.command
@click.argument("topic")
@click.option("--group", metavar="G", required=True, help="Whose progress is set back, such as features.")
@click.option("--to", "place", metavar="PLACE", type=Place(), required=True, help="start, an offset, or an event time (UTC).")
@click.option("--yes", is_flag=True, help="Do it; without, it is only told what would be done.")
@click.pass_obj
def replay(output: Output, topic: str, group: str, place: int | datetime, yes: bool) -> None:
    """Let a reader take events once more.

    Its progress in TOPIC is set back; nothing is published, and nothing is changed in the topic. Every reader of the platform is made for
    this: an event that it had before has no second effect.
    """
    from mlops_lab.pipelines.readers import UNKNOWN, groups_of, lag, reader_of

    lab = open_bus()
    bus, name = lab.bus, known_topic(topic).name
    groups = groups_of(lab, name)
    if not groups:
        raise UsageError(f"No group reads '{name}'.", "see `lab events topics` for who reads what.")
    if group not in groups:
        raise UnknownName.of(f"group that reads '{name}'", group, groups)
    before = [bus.committed(group, name, number) for number in range(bus.partitions(name))]
    after = [min(now, _before(bus, name, number, place)) for number, now in enumerate(before)]
    events, reader = sum(before) - sum(after), reader_of(group)
    again = reader.again if reader else UNKNOWN
    done = {"topic": name, "group": group, "before": before, "after": after, "events": events, "again": again}
    if not events:
        output.say(f"'{group}' has not come behind that place in '{name}' yet; nothing is to be set back.")
        output.result({**done, "changed": False})
        return
    where = f"from {shown(place)} on" if isinstance(place, datetime) else "from the start" if place == 1 else f"from {place} on"
    output.say(f"'{group}' takes {events:,} events of '{name}' again, {where}. It {again}.")
    if not yes:
        output.say("Nothing was changed. Next: the same with --yes.")
        output.result({**done, "changed": False})
        return
    if reader is not None and runs(lab, reader.service):
        raise UsageError(
            f"The service '{reader.service}' runs, and would write its own progress over what is set.",
            "`lab down`, this command again, then `lab up`.",
        )
    for number, offset in enumerate(after):
        if offset < before[number]:
            bus.commit(group, name, offset, number)
    output.say(f"Set back. `lab events topics` shows how far behind it is: {lag(bus, group, name):,} events.")
    output.result({**done, "changed": True})


def _before(bus: EventBus, topic: str, number: int, place: int | datetime) -> int:
    """The offset behind which a place lies: events of that time or later, all of them, come behind it."""
    if isinstance(place, int):
        return place - 1
    offset = 0
    for each in everything(bus, topic, number):
        if isinstance(each, Delivery) and each.message.at >= place:
            return offset
        offset = each.offset
    return offset
