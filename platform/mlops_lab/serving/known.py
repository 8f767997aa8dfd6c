"""What a replica remembers on its own disk: what it heard from the ledger last, and what it served. Enough to start and to go back."""

import json
import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mlops_lab.durable import write_durably

_KEEP_SERVED = 5

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Served:
    """A version that was champion here.

    Attributes:
        version: Its number.
        assignment: Id of the ledger's line.
        assigned_at: Its event time, ISO 8601.
        scorer_sha256: Its digest.
    """

    version: int
    assignment: int
    assigned_at: str
    scorer_sha256: str


@dataclass(frozen=True, slots=True)
class Known:
    """What a replica last heard from the ledger and what it served, as text and numbers.

    Attributes:
        model: Name of the registered model.
        version: The champion's number.
        assignment: Id of the ledger's line.
        assigned_at: Its event time, ISO 8601.
        scorer_sha256: The champion's digest.
        known_at: Wall time of this knowledge, ISO 8601.
        served: The champions before it, here or elsewhere, newest first, without those that are barred.
        barred: Versions that never come back by themselves.
        settled: Ids of local pins that the ledger has taken in: they have no effect any more.
        left: Versions that the last local pin left ...
        not_before: ... and the id of the newest line that was known then: no line up to it brings one of them back.
    """

    model: str
    version: int
    assignment: int
    assigned_at: str
    scorer_sha256: str
    known_at: str
    served: tuple[Served, ...] = ()
    barred: tuple[int, ...] = ()
    settled: tuple[str, ...] = ()
    left: tuple[int, ...] = ()
    not_before: int = 0

    @property
    def all_served(self) -> tuple[Served, ...]:
        """The present champion, then those before it."""
        return (Served(self.version, self.assignment, self.assigned_at, self.scorer_sha256), *self.served)

    def then(self, now: Served, **changes: Any) -> "Known":
        """This with another champion (or the same by another line), the one until now among the earlier ones."""
        barred = set(changes.get("barred", self.barred))
        earlier = [each for each in self.all_served if each.version != now.version and each.version not in barred]
        return replace(self, **asdict(now), **changes, served=tuple(earlier[:_KEEP_SERVED]))

    def also(self, earlier: Iterable[Served]) -> "Known":
        """This with champions that answered before this replica was there; the ledger's order decides, and what is barred is left out."""
        newest: dict[int, Served] = {}
        for each in sorted((*self.served, *earlier), key=lambda each: each.assignment):
            if each.version != self.version and each.version not in self.barred:
                newest[each.version] = each
        served = sorted(newest.values(), key=lambda each: each.assignment, reverse=True)[:_KEEP_SERVED]
        return replace(self, served=tuple(served))

    @classmethod
    def from_json(cls, content: bytes) -> "Known":
        """Read a file of this release, or of one that kept no history. Raises ValueError, TypeError."""
        said = json.loads(content)
        lists = {name: tuple(said.get(name, ())) for name in ("barred", "settled", "left")}
        known = cls(**{**said, **lists, "served": tuple(Served(**each) for each in said.get("served", ()))})
        numbers = (
            known.not_before,
            *known.barred,
            *known.left,
            *(number for each in known.all_served for number in (each.version, each.assignment)),
        )
        texts = (known.model, known.known_at, *known.settled, *(t for e in known.all_served for t in (e.assigned_at, e.scorer_sha256)))
        if not all(type(number) is int for number in numbers) or not all(isinstance(text, str) for text in texts):
            raise TypeError("a number or a text is of another kind")
        return known


class KnownFile:
    """`state.json`: lets a replica start, and answer, while the ledger is down."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Known | None:
        """What was known last; None when nothing was, or the file cannot be used (which is logged)."""
        try:
            return Known.from_json(self._path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, AttributeError) as error:
            _log.error("serving.state_unreadable", extra={"path": str(self._path), "why": str(error)})
            return None

    def write(self, known: Known) -> None:
        """Replace the file in one step. A disk that does not take it is logged: the replica answers all the same."""
        new = self._path.with_name(f"{self._path.name}.new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_durably(new, json.dumps(asdict(known), indent=1).encode())
            new.rename(self._path)
        except OSError as error:
            _log.error("serving.state_not_written", extra={"path": str(self._path), "why": str(error)})

    def forget(self) -> None:
        """Nothing serves any more."""
        self._path.unlink(missing_ok=True)
