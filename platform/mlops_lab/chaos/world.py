"""A home to break: founded, with a ledger, signed packages of real forests, and facts on the bus; made in seconds, without a pipeline."""

import dataclasses
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import orjson

from mlops_lab.bootstrap import Lab
from mlops_lab.bootstrap.founding import found
from mlops_lab.bootstrap.identities import OPERATOR, TRAINER
from mlops_lab.chaos.broker import Broker
from mlops_lab.chaos.replica import Replica, Trace, free_port
from mlops_lab.events import OBSERVATIONS, REFERENCES
from mlops_lab.registry.ledger import OVERRIDE
from mlops_lab.registry.version import Assignment, ModelVersion, Role
from mlops_lab.scoring.forest import Forest
from mlops_lab.scoring.keys import signing_key
from mlops_lab.scoring.manifest import Manifest, sha256, sign
from mlops_lab.scoring.store import Package

if TYPE_CHECKING:  # pandas comes with it
    from mlops_lab.flights.source import Year

Sections = Mapping[str, Mapping[str, object]]
EMBEDDED: Sections = MappingProxyType({"events": {"bus": "embedded"}, "features": {"store": "process"}})

CUT = datetime(2013, 1, 29, tzinfo=UTC)
"""Event time: trained on the weeks before, facts of the days before, questions about the day after."""

_SINCE = datetime(2013, 1, 7, tzinfo=UTC)
_ROUNDS = 60
_FORESTS = 3
_MANY = 5  # every so many questions one asks about several flights


@dataclass(frozen=True)
class Materials:
    """What every home of one run is made of.

    Attributes:
        template: A founded home with versions 1 to 3 registered and published, the first of them champion.
        forests: Of those versions, in order.
        data_sha256: Digest of the rows they were fitted on.
        bodies: File of request bodies, one JSON object a line.
    """

    template: Path
    forests: tuple[Forest, ...]
    data_sha256: str
    bodies: Path


class Home:
    """One home of its own, with what the faults do in it."""

    def __init__(self, lab: Lab, materials: Materials) -> None:
        self.lab = lab
        self.materials = materials

    @property
    def path(self) -> Path:
        return self.lab.home

    @property
    def bodies(self) -> Path:
        return self.materials.bodies

    def log(self, replica: str = "replica-1") -> Path:
        """The folder of a replica's prediction log."""
        return self.path / "serving" / replica / "log"

    def replica(
        self,
        name: str = "replica-1",
        *,
        stepped: Path | None = None,
        traced: Trace | None = None,
        variables: Mapping[str, str] | None = None,
        **settings: object,
    ) -> Replica:
        """A serving process of this home, not started yet.

        Args:
            name: Of the replica.
            stepped: File with the seconds by which its wall clock is off.
            traced: System calls to be written down.
            variables: More LAB_ variables.
            settings: Of the section `service`, such as `durability="disk"`.
        """
        names = {f"LAB_SERVICE__{key.upper()}": str(value) for key, value in settings.items()}
        env = {
            "LAB_HOME": str(self.path),
            "LAB_SERVICE__REPLICA": name,
            "LAB_SERVICE__PORT": str(free_port()),
            **names,
            **(variables or {}),
        }
        return Replica(env, self.path / f"{name}.stderr", stepped=stepped, traced=traced)

    def package(self, forest: Forest) -> Package:
        """A forest as a package that this home has signed."""
        content = forest.to_bytes()
        manifest = Manifest(self.lab.model, sha256(content), self.materials.data_sha256, "0" * 64)
        return Package(content, manifest.to_bytes(), sign(manifest, signing_key(self.lab.keys)))

    def variant(self, number: int) -> Forest:
        """A forest that answers a little differently from all others, so that it has a digest of its own."""
        forest = self.materials.forests[number % len(self.materials.forests)]
        return dataclasses.replace(forest, baseline=forest.baseline + number * 1e-6)

    def register(self, digest: str) -> int:
        """Enter a scorer into the ledger as the next version; whether a package lies in the store is another matter."""
        number = max((version.number for version in self.lab.ledger.versions()), default=0) + 1
        version = ModelVersion(
            model=self.lab.model,
            number=number,
            run_id=f"chaos-{number}",
            scorer_sha256=digest,
            data_sha256=self.materials.data_sha256,
            trained_until=CUT,
            registered_at=self.lab.clock.now(),
            registered_by=TRAINER,
            origin="first",
        )
        self.lab.ledger.add_version(version, TRAINER)
        return number

    def publish(self, forest: Forest) -> int:
        """Publish and register a version."""
        return self.register(self.lab.packages.put(*self.package(forest)))

    def promote(self, version: int) -> Assignment:
        """Give a version the traffic, as an operator may."""
        ledger = self.lab.ledger
        now = ledger.current(Role.CHAMPION)
        replacing = now.id if now else None
        return ledger.assign(Role.CHAMPION, version, replacing=replacing, kind=OVERRIDE, by=OPERATOR, why="a fault is tried", at=CUT)


class World:
    """Makes homes in one scratch folder.

    Args:
        root: The folder; who made it removes it.
        open_lab: The ports of a home at a path, with sections of settings that it is to have.
        broker: May be killed; None where none was given.
    """

    def __init__(self, root: Path, open_lab: Callable[[Path, Sections], Lab], broker: Broker | None = None) -> None:
        self.root = root
        self.broker = broker
        self._open_lab = open_lab
        self._made = 0

    def home(self, sections: Sections = EMBEDDED) -> Home:
        """A fresh home, a copy of the template."""
        path = self._path()
        shutil.copytree(self.materials.template, path)
        return Home(self._open_lab(path, sections), self.materials)

    def fresh(self, sections: Sections) -> Lab:
        """The ports of a home in which nothing is."""
        return self._open_lab(self._path(), sections)

    def _path(self) -> Path:
        self._made += 1
        return self.root / f"home-{self._made}"

    @cached_property
    def year(self) -> "Year":
        """The flights of 2013, read once."""
        from mlops_lab.flights.source import load

        return load(self._open_lab(self.root / "template", EMBEDDED).settings.data)

    @cached_property
    def materials(self) -> Materials:
        """Fit and publish, once per run: a few seconds."""
        from mlops_lab.flights.messages import aircraft
        from mlops_lab.flights.offline import history_features  # late: pandas and scikit-learn are slow to import
        from mlops_lab.flights.request import LATE_AFTER_MIN
        from mlops_lab.flights.source import Year
        from mlops_lab.flights.timeline import Timeline
        from mlops_lab.flights.usecase import RECIPE
        from mlops_lab.training.rows import TrainingRows

        template = self.root / "template"
        lab = self._open_lab(template, EMBEDDED)
        found(lab)
        year = self.year
        flights = year.flights[year.flights["scheduled_departure"].between(_SINCE, CUT + timedelta(days=2))].reset_index(drop=True)
        weather = year.weather[year.weather["observed_at"].between(_SINCE, CUT + timedelta(days=2))]
        past = (flights["scheduled_departure"] < CUT) & flights["arrived_at"].notna()
        rows = TrainingRows(
            features=history_features(flights, weather, year.aircraft)[past].reset_index(drop=True),
            labels=(flights["arrival_delay_min"] > LATE_AFTER_MIN).to_numpy(dtype=bool)[past],
            keys=flights["flight_id"].to_numpy(dtype=str)[past],
            moments=flights["scheduled_departure"].dt.tz_localize(None).to_numpy(dtype="datetime64[us]")[past],
        )
        recipes = [dataclasses.replace(RECIPE, rounds=_ROUNDS, learning_rate=0.05 * (i + 1), seed=i) for i in range(_FORESTS)]
        forests = tuple(lab.trainer(recipe, rows).forest() for recipe in recipes)
        timeline = Timeline(Year(flights, weather, year.aircraft), seed=7)
        lab.bus.publish(REFERENCES, list(aircraft(year.aircraft, _SINCE)))
        lab.bus.publish(OBSERVATIONS, timeline.warm_up(CUT))
        questions = [body for step in timeline.steps(CUT, CUT + timedelta(days=1)) for _, body in step.questions]
        several = [b'{"items":[' + b",".join(questions[i : i + _MANY]) + b"]}" for i in range(0, len(questions) - _MANY, _MANY)]
        bodies = self.root / "bodies.jsonl"
        bodies.write_bytes(b"\n".join(questions + several) + b"\n")
        made = Materials(template, forests, rows.digest(), bodies)
        home = Home(lab, made)
        for forest in forests:
            home.publish(forest)
        home.promote(1)
        assert all(orjson.loads(body) for body in questions[:10])
        return made
