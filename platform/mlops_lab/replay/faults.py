"""Which faults are on in a home: what `lab break` switches, and the replay plays."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from mlops_lab.clock import from_iso, iso
from mlops_lab.flights.faults import fault_called


@dataclass(frozen=True, slots=True)
class ActiveFault:
    """A fault from a moment of event time on; `until` is when it was cleared, None while it is on."""

    name: str
    since: datetime
    until: datetime | None = None


class Faults:
    """A small JSON file, replaced as a whole. A fault that is over stays in it: what it did to the past is not undone."""

    def __init__(self, home: Path) -> None:
        self._path = home / "faults.json"

    def all(self) -> list[ActiveFault]:
        """Every fault that is on or was, in the order in which they were started."""
        if not self._path.is_file():
            return []
        said = json.loads(self._path.read_text(encoding="utf-8"))
        return [ActiveFault(one["name"], from_iso(one["since"]), from_iso(one["until"]) if one.get("until") else None) for one in said]

    def active(self) -> list[ActiveFault]:
        """The faults that are on."""
        return [one for one in self.all() if one.until is None]

    def start(self, name: str, since: datetime) -> ActiveFault:
        """Switch a fault on; one that is on stays as it is. Raises UnknownName."""
        fault_called(name)
        for one in self.active():
            if one.name == name:
                return one
        started = ActiveFault(name, since)
        self._write([*self.all(), started])
        return started

    def clear(self, name: str | None = None, *, at: datetime) -> list[str]:
        """Switch one fault off, or all, as of an event time; returns the names of those that were on."""
        kept, gone = [], []
        for one in self.all():
            if one.until is None and name in (None, one.name):
                gone.append(one.name)
                if at > one.since:
                    kept.append(replace(one, until=at))
            else:
                kept.append(one)
        if gone:
            self._write(kept)
        return gone

    def _write(self, faults: Sequence[ActiveFault]) -> None:
        said = [{"name": one.name, "since": iso(one.since), "until": iso(one.until) if one.until else None} for one in faults]
        aside = self._path.with_suffix(".partial")
        aside.write_text(json.dumps(said), encoding="utf-8")
        aside.replace(self._path)
