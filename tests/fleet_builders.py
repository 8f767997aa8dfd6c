"""Replicas of a home that serve one version after the other, and ways in which the home's ledger is no use."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlops_lab.bootstrap.followed import LedgerOfHome
from mlops_lab.clock import FixedClock
from mlops_lab.events.on_sqlite import SqliteBus
from mlops_lab.features.policy import FeaturePolicy
from mlops_lab.registry import Role
from mlops_lab.scoring.keys import KeyRing
from mlops_lab.scoring.scorer import Scorer
from mlops_lab.scoring.store import DirectoryStore
from mlops_lab.serving.facts import FactStream
from mlops_lab.serving.parts import ServingParts, assemble
from mlops_lab.serving.pin import PIN
from mlops_lab.serving.tokens import Tokens
from parcel_builders import MODEL, week
from pipeline_builders import NOW, SmallLab
from serving_builders import Counted, Queues

AT = week(7).start


def force(lab: SmallLab, version: int) -> None:
    now = lab.ledger.champion()
    lab.ledger.assign(Role.CHAMPION, version, replacing=now.id, kind="override", by="operator", why="a drill", at=AT)


class ParcelsOnline(Queues):
    """Parcels, as far as a follower needs them."""

    policy = FeaturePolicy({}, behind_s=0)


class Fleet:
    """Replicas of a home whose followers are stepped by hand; each look at what answers is kept."""

    def __init__(self, lab: SmallLab) -> None:
        self.lab = lab
        self.running: dict[str, ServingParts] = {}

    def start(self, name: str) -> None:
        home, use_case = self.lab.home, ParcelsOnline()
        use_case.features = self.lab.use_case.features  # type: ignore[assignment]
        self.running[name] = assemble(
            home / "serving" / name,
            use_case,
            source=FactStream(SqliteBus(home / "bus.db"), Counted()),
            ledger=LedgerOfHome(home, MODEL),
            packages=DirectoryStore(home / "packages"),
            keys=KeyRing(self.lab.keys),
            load=Scorer.from_bytes,
            clock=FixedClock(NOW),
            tokens=Tokens(self.lab.keys / "feedback.token"),
        )
        self.running[name].follower.start_from_cache()

    def kill(self, name: str) -> None:
        """What a dead process leaves: its files."""
        self.running.pop(name).log.close()

    def answer(self) -> Mapping[str, int | None]:
        for parts in self.running.values():
            parts.follower.step()
        return {name: parts.slot.current.version if parts.slot.current else None for name, parts in self.running.items()}


class AsItWas:
    """A ledger as it was."""

    def __init__(self, standing: Any) -> None:
        self._standing = standing

    def standing(self) -> Any:
        return self._standing


FILES = ("lab.db", "lab.db-wal", "lab.db-shm")


class Down:
    """Ways in which a ledger is no use."""

    def __init__(self, lab: SmallLab, how: str) -> None:
        self.home, self.how = lab.home, how

    def __enter__(self) -> None:
        (self.home / "aside").mkdir()
        self._move(self.home, self.home / "aside")
        if self.how in ("corrupt", "empty"):
            (self.home / "lab.db").write_bytes(b"this is no database, " * 1000 if self.how == "corrupt" else b"")

    def __exit__(self, *_: object) -> None:
        for name in FILES:
            (self.home / name).unlink(missing_ok=True)
        self._move(self.home / "aside", self.home)

    def _move(self, here: Path, there: Path) -> None:
        for name in FILES:
            if (here / name).exists():
                (here / name).rename(there / name)


def checkpointed(lab: SmallLab) -> None:
    """All of the database in its one file, and nobody has it open: so that it can be taken away and put back."""
    lab.ledger.close()  # type: ignore[attr-defined]


def pin_files(lab: SmallLab) -> list[str]:
    return sorted(path.parent.name for path in lab.home.glob(f"serving/*/{PIN}"))
