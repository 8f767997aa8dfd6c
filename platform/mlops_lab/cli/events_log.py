"""`lab events tail`: events as they came, one a line."""

import json
import time
from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

import click

from mlops_lab.cli.events_bus import any_topic, open_bus, plain
from mlops_lab.cli.opened import shown
from mlops_lab.cli.output import Output
from mlops_lab.errors import MessageUnreadable
from mlops_lab.events import Delivery, EventBus
from mlops_lab.events.reading import everything

Found = Delivery | MessageUnreadable

_LOOK_EVERY_S = 0.2
_STRETCH = 500
_WIDTH = 100


def _remember(ctx: click.Context, _: click.Parameter, given: bool) -> None:
    if given:
        ctx.ensure_object(Output).as_json = True


@click.command
@click.argument("topic")
@click.option("--from", "begin", metavar="N", type=click.IntRange(min=1), help="Begin with offset N, of each partition.")
@click.option("--limit", metavar="N", type=click.IntRange(min=1), default=20, show_default=True, help="So many events.")
@click.option("--key", metavar="K", help="Only those of this key, such as an aircraft.")
@click.option("--type", "kind", metavar="T", help="Only those of this type, such as FlightDeparted.")
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes, until Ctrl-C; with --from all from there on.")
@click.option("--json", is_flag=True, is_eager=True, expose_value=False, callback=_remember, help="One CloudEvent a line instead of text.")
@click.pass_obj
def tail(output: Output, topic: str, begin: int | None, limit: int, key: str | None, kind: str | None, follow: bool) -> None:
    """Print events of a topic as they came.

    The newest, or those from an offset on. Topics of dead letters too, such as observations.dead.

    A line is event time, place (partition/offset), type, subject, the key where it is another, and data.
    """
    lab = open_bus()
    bus, name, wanted = lab.bus, any_topic(topic), _Wanted(key, kind)
    heads = [bus.head(name, number) for number in range(bus.partitions(name))]
    if begin is None:
        found = _merged([_newest(bus, name, number, head, limit, wanted) for number, head in enumerate(heads)])[-limit:]
    elif follow:
        found, heads = [], [begin - 1] * len(heads)
    else:
        found = _merged([_from(bus, name, number, begin - 1, head, limit, wanted) for number, head in enumerate(heads)])[:limit]
    for each in found:
        _print(output, each)
    if not found and not follow:
        if kind is not None:
            lab.event_types.named(kind)
        output.say(f"There are no events{' like that' if key or kind else ''} in '{name}'{f' from {begin} on' if begin else ''}.")
    while follow:
        for number in range(len(heads)):
            for each in everything(bus, name, number, heads[number]):
                heads[number] = each.offset
                if wanted.has(each):
                    _print(output, each)
        time.sleep(_LOOK_EVERY_S)


class _Wanted(NamedTuple):
    key: str | None
    kind: str | None

    def has(self, found: Found) -> bool:
        if isinstance(found, MessageUnreadable):
            return self == (None, None)
        return self.key in (None, found.message.key) and self.kind in (None, found.message.type)


def _from(bus: EventBus, topic: str, number: int, after: int, head: int, limit: int, wanted: _Wanted) -> list[Found]:
    return list(islice(filter(wanted.has, everything(bus, topic, number, after, head)), limit))


def _newest(bus: EventBus, topic: str, number: int, head: int, limit: int, wanted: _Wanted) -> list[Found]:
    """The last ones of a partition that are wanted, oldest first: read backwards, a stretch at a time."""
    found: list[Found] = []
    while head > 0 and len(found) < limit:
        begin = max(0, head - max(limit, _STRETCH))
        found = [*filter(wanted.has, everything(bus, topic, number, begin, head)), *found]
        head = begin
    return found[-limit:]


def _merged(partitions: Sequence[Sequence[Found]]) -> list[Found]:
    """Partitions side by side in event time; each keeps its own order, in which a late event stays where it came."""
    placed: list[tuple[float, int, int, Found]] = []
    for partition in partitions:
        newest = 0.0
        for each in partition:
            newest = max(newest, each.message.at.timestamp()) if isinstance(each, Delivery) else newest
            placed.append((newest, each.partition, each.offset, each))
    return [each for *_, each in sorted(placed, key=lambda place: place[:3])]


def _print(output: Output, found: Found) -> None:
    place = f"{found.partition}/{found.offset}"
    if isinstance(found, MessageUnreadable):
        told = json.dumps({"unreadable": place, "why": found.what}, ensure_ascii=False)
        click.echo(told if output.as_json else f"{'':17}  {place:>9}  UNREADABLE: {plain(found.what)}")
        return
    message = found.message
    if output.as_json:
        click.echo(json.dumps(message.to_cloudevent(), ensure_ascii=False))
        return
    key = f" [{message.key}]" if message.key != message.subject else ""
    data = " ".join(f"{name}={_short(value)}" for name, value in message.data.items())
    click.echo(plain(f"{shown(message.at)}  {place:>9}  {message.type:<18} {message.subject + key:<14}  {_cut(data)}".rstrip()))


def _short(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _cut(text: str) -> str:
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"
