"""Which bus and which online store a home uses. Recorded in the home, so that every command and process there uses the same."""

import json
import os
from pathlib import Path
from typing import Literal, NamedTuple

from mlops_lab.errors import SettingsWrong
from mlops_lab.settings import Settings

FILE = "parts.json"

Bus = Literal["embedded", "kafka"]
Store = Literal["process", "sqlite", "redis"]


class Chosen(NamedTuple):
    """What a home works with.

    Attributes:
        bus: Where events travel.
        store: Where online features are; `process` reads the embedded bus itself.
    """

    bus: Bus = "embedded"
    store: Store = "process"


def chosen(settings: Settings) -> Chosen:
    """What the settings say, else what the home has recorded, else the embedded parts.

    Raises:
        SettingsWrong: The record cannot be read, or the parts do not go together.
    """
    bus, store = settings.events.bus, settings.features.store
    if bus and store:
        return checked(Chosen(bus, store))
    recorded = recorded_in(settings.home)
    return checked(Chosen(bus or recorded.bus, store or recorded.store))


def recorded_in(home: Path) -> Chosen:
    """What the home has recorded; the embedded parts where it has not. Raises SettingsWrong."""
    path = home / FILE
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        if said["bus"] not in ("embedded", "kafka") or said["store"] not in ("process", "sqlite", "redis"):
            raise ValueError(f"unknown parts {said}")
        return Chosen(said["bus"], said["store"])
    except FileNotFoundError:
        return Chosen()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SettingsWrong(f"{path} does not say what this home uses: {error}.", "write it anew with `lab up --with ...`.") from error


def record(home: Path, parts: Chosen) -> None:
    """Write down what a home uses from now on. Raises SettingsWrong where the parts do not go together."""
    checked(parts)
    home.mkdir(parents=True, exist_ok=True)
    path = home / FILE
    beside = path.with_suffix(f".{os.getpid()}.tmp")
    beside.write_text(json.dumps(parts._asdict()) + "\n", encoding="utf-8")
    beside.replace(path)


def checked(parts: Chosen) -> Chosen:
    """The same parts. Raises SettingsWrong: the service itself reads no broker, so facts from Kafka need a store."""
    if parts.bus == "kafka" and parts.store == "process":
        raise SettingsWrong(
            "Facts from Kafka reach the service through an online store, and none is chosen.",
            "add one: `lab up --with kafka,redis`, or LAB_FEATURES__STORE=sqlite.",
        )
    return parts


def with_parts(settings: Settings, parts: Chosen) -> Settings:
    """The same settings, with the parts said by them."""
    return settings.model_copy(
        update={
            "events": settings.events.model_copy(update={"bus": parts.bus}),
            "features": settings.features.model_copy(update={"store": parts.store}),
        }
    )
