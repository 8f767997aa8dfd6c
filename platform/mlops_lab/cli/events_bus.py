"""What all `lab events` commands begin with: the bus of the home, and a topic by its name."""

from typing import TYPE_CHECKING

from mlops_lab.cli.opened import open_lab
from mlops_lab.errors import UnknownName
from mlops_lab.events.topics import TOPICS, Topic

if TYPE_CHECKING:
    from mlops_lab.bootstrap import Lab


def open_bus() -> "Lab":
    """The home whose bus is read. On a broker it may be read before anything happened in the home.

    Raises:
        EvidenceMissing: The bus is in the home, and there is nothing in it yet.
    """
    from mlops_lab.bootstrap.chosen import chosen
    from mlops_lab.settings import load_settings

    return open_lab(without_ledger=chosen(load_settings()).bus == "kafka")


def known_topic(name: str) -> Topic:
    """Raises UnknownName with the near miss."""
    if name not in TOPICS:
        raise UnknownName.of("topic", name, TOPICS)
    return TOPICS[name]


def plain(text: str) -> str:
    """A stranger's text on one line, without what a terminal would obey."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def any_topic(name: str) -> str:
    """The same name; also that of a topic of dead letters. Raises UnknownName."""
    known = [*TOPICS, *(topic.dead for topic in TOPICS.values())]
    if name not in known:
        raise UnknownName.of("topic", name, known)
    return name
