"""`lab events dead`: what could not be worked on, why, and how it is tried again."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlops_lab.cli.chronicle import shortened
from mlops_lab.cli.events_bus import known_topic, open_bus, plain
from mlops_lab.cli.opened import identity
from mlops_lab.cli.output import Output
from mlops_lab.errors import LabError, MessageUnreadable, UnknownName, UsageError
from mlops_lab.events.topics import TOPICS

if TYPE_CHECKING:
    from mlops_lab.bootstrap import Lab
    from mlops_lab.events import Message
    from mlops_lab.events.dead import Lying
    from mlops_lab.events.dead_letter import DeadLetter


@click.command
@click.argument("topic", required=False)
@click.option("--show", metavar="ID", help="Everything about one, and the event itself.")
@click.option("--retry", "again", metavar="ID|all", help="Publish the event again: what reads it has been repaired, or knows it by now.")
@click.option("--repaired", metavar="FILE", type=click.Path(path_type=Path), help="With --retry: the CloudEvent as it should have been.")
@click.option("--as", "name", metavar="NAME", help="Whose token to use, from the home's keys. Default: operator.")
@click.pass_obj
def dead(output: Output, topic: str | None, show: str | None, again: str | None, repaired: Path | None, name: str | None) -> None:
    """List what could not be worked on, and why.

    The dead letters of TOPIC, or of all topics; the events behind them went on. An ID is topic/partition/offset of the event. A retry
    checks the event first and records who wanted it; a second one changes nothing.
    """
    if repaired is not None and (again is None or again == "all"):
        raise UsageError("--repaired takes the place of one event.", "say which: `lab events dead --retry ID --repaired FILE`.")
    lab = open_bus()
    if again is not None and again != "all":
        _retry(output, lab, _of(lab, again), name, repaired)
    elif again is not None:
        _retry(output, lab, _lying(lab, topic), name, None)
    elif show is not None:
        _show(output, _of(lab, show))
    else:
        _list(output, _lying(lab, topic), topic)


def _lying(lab: "Lab", topic: str | None) -> "list[Lying]":
    from mlops_lab.events.dead import dead_letters

    topics = [known_topic(topic).name] if topic else list(TOPICS)
    return [lying for each in topics for lying in dead_letters(lab.bus, each)]


def _of(lab: "Lab", identifier: str) -> "list[Lying]":
    """The dead letters of an id: one, unless a topic was made anew. Raises UnknownName."""
    topic = identifier.partition("/")[0]
    lying = _lying(lab, topic if topic in TOPICS else None)
    found = [each for each in lying if each.letter.id == identifier]
    if not found:
        raise UnknownName.of("dead letter", identifier, {each.letter.id for each in lying} or {"(there is none)"})
    return found


def _list(output: Output, found: "list[Lying]", topic: str | None) -> None:
    where = f"'{topic}'" if topic else "any topic"
    if found:
        output.table(
            ["id", "buried (UTC)", "published again", "tries", "reason", "why"],
            [[b.letter.id, b.letter.last_at, b.retried_at, b.letter.tries, b.letter.reason, _brief(b.letter)] for b in found],
        )
    waiting = [lying.letter for lying in found if lying.retried_at is None]
    if not found:
        output.say(f"There are no dead letters of {where}: every event so far could be worked on.")
    elif waiting:
        last = waiting[-1].id
        output.say(f"Next: `lab events dead --show {last}`; once its cause is gone, `lab events dead --retry {last}`.")
    output.result({"letters": [_document(lying) for lying in found]})


def _brief(letter: "DeadLetter") -> str:
    """Why, without which event: the id says that."""
    return plain(shortened(letter.why.rpartition(" is refused: ")[2].rpartition(" cannot be read: ")[2]))


def _show(output: Output, found: "list[Lying]") -> None:
    for lying in found:
        letter = lying.letter
        output.say(f"{letter.id}: {letter.reason}{f', {letter.field}' if letter.field else ''}")
        output.say(plain(letter.why))
        output.say(f"Next: {letter.next_step}")
        tried = "once" if letter.tries == 1 else f"{letter.tries} times"
        span = f"at {letter.last_at:%Y-%m-%d %H:%M:%S}Z" if letter.tries == 1 else f"until {letter.last_at:%Y-%m-%d %H:%M:%S}Z"
        output.say(f"Tried {tried}, {span}; {_fate(lying)}.")
        output.say(_readable(letter))
    output.result({"letters": [_document(lying) for lying in found]})


def _fate(lying: "Lying") -> str:
    return f"published again at {lying.retried_at:%Y-%m-%d %H:%M:%S}Z" if lying.retried_at else "not published again"


def _readable(letter: "DeadLetter") -> str:
    try:
        lines = json.dumps(letter.event().to_cloudevent(), indent=2, ensure_ascii=False).splitlines()
        return "\n".join(map(plain, lines))
    except MessageUnreadable:
        return f"{len(letter.raw)} bytes: {letter.raw[:2000]!r}"


def _retry(output: Output, lab: "Lab", found: "list[Lying]", name: str | None, repaired: Path | None) -> None:
    from mlops_lab.events.dead import retry

    who = identity(lab, name, "operator")[0].name
    event = _read(repaired) if repaired else None
    published: list[dict[str, Any]] = []
    refused: list[tuple[str, LabError]] = []
    for letter, retried_at in found:
        if retried_at is not None:
            continue
        try:
            message = retry(lab.bus, letter, lab.event_types, by=who, at=lab.clock.now(), event=event)
        except LabError as error:
            if len(found) == 1:
                raise
            refused.append((letter.id, error))
            continue
        published.append({"letter": letter.id, "topic": letter.topic, "published": message.id})
        output.say(f"{letter.id} is on '{letter.topic}' again, as event {message.id}.")
    for identifier, trouble in refused:
        output.say(f"{identifier} would be refused again: {trouble.what}")
    before = len(found) - len(published) - len(refused)
    if before:
        output.say(f"Published again before, so nothing was done: {before}.")
    elif not found:
        output.say("There are no dead letters; nothing was done.")
    told = [{"letter": identifier, "why": trouble.what, "next": trouble.next_step} for identifier, trouble in refused]
    output.result({"published": published, "refused": told, "before": before})


def _read(file: Path) -> "Message":
    from mlops_lab.events import Message

    try:
        return Message.from_cloudevent(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, AttributeError) as error:
        raise UsageError(
            f"{file} holds no CloudEvent: {error}.", "write one JSON object like those that `lab events tail TOPIC --json` prints."
        ) from error


def _document(lying: "Lying") -> dict[str, Any]:
    letter = lying.letter
    try:
        event = letter.event().to_cloudevent()
    except MessageUnreadable:
        event = None
    told = {
        "id": letter.id,
        "reason": letter.reason,
        "field": letter.field,
        "why": letter.why,
        "next": letter.next_step,
        "tries": letter.tries,
        "first_at": letter.first_at,
        "last_at": letter.last_at,
        "retried_at": lying.retried_at,
        "event": event,
    }
    return told if event is not None else told | {"raw": letter.to_message().data["raw"], "encoding": letter.to_message().data["encoding"]}
