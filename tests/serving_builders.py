"""A use case, a scorer, a ledger and a store that are just large enough to serve; and a replica as a process of its own.

As a program: `python serving_builders.py DIRECTORY PORT [flights]` serves them on 127.0.0.1 until it is stopped; with `features` instead of
`flights`, the features of flights come from where the LAB_ variables say.
"""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NotRequired

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typing_extensions import TypedDict

from mlops_lab.clock import FixedClock, WallClock
from mlops_lab.errors import RegistryUnreachable, ScorerRefused, StoreUnreachable
from mlops_lab.events import OBSERVATIONS, Message
from mlops_lab.events.in_time import BusInTime
from mlops_lab.events.on_sqlite import SqliteBus
from mlops_lab.features import Ask, Feature, Kind, Value
from mlops_lab.features.policy import FeaturePolicy, SourceRule
from mlops_lab.features.view import FeatureRow
from mlops_lab.flights.online_usecase import FlightsOnline
from mlops_lab.registry import ledger
from mlops_lab.registry.ledger import Standing
from mlops_lab.registry.version import Assignment, Role
from mlops_lab.scoring.manifest import Manifest, sha256, sign
from mlops_lab.serving.bodies import Bodies
from mlops_lab.serving.contract import FieldWrong
from mlops_lab.serving.facts import FactStream
from mlops_lab.serving.fields import Moment, closed, text
from mlops_lab.serving.follower import Limits
from mlops_lab.serving.parts import ServingParts, assemble
from mlops_lab.serving.prediction_log import Durability, Position, read_frames
from mlops_lab.serving.source import FeatureSource
from mlops_lab.serving.tokens import Tokens
from mlops_lab.telemetry import OFF, Spans

NOON = datetime(2013, 4, 1, 12, tzinfo=UTC)
TOKEN = "feedback-token-of-the-tests"
MODEL = "queue-length"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
FEATURES = (
    Feature("hour", Kind.NUMBER, "h", "hour of the day"),
    Feature("place", Kind.CATEGORY, "", "where"),
    Feature("seen", Kind.NUMBER, "people", "the newest count at the place"),
)


@closed({"id": "q1", "place": "gate", "at": "2013-04-01T12:00:00Z"})
class Spot(TypedDict):
    """Where, and when."""

    id: NotRequired[Annotated[str, text("^[ -~]{1,20}$", "Yours.", "q1")]]
    place: Annotated[str, text("^[^\u0000-\u001f]{1,50}$", "The name of the place.", "gate")]
    at: Moment


@closed({"long": True})
class Seen(TypedDict):
    """What the queue was like."""

    long: bool


class Queues:
    """How long is the queue at a place? Nobody knows it of a place that is closed, and the type of an item cannot say so."""

    features = FEATURES
    policy = FeaturePolicy({"counts": SourceRule(("seen",), max_age_s=86_400)}, behind_s=3600)
    item: type[Any] = Spot
    outcome: type[Any] = Seen

    def ask(self, item: Spot) -> Ask:
        if item["place"] == "closed":
            raise FieldWrong("place", "is closed")
        return Ask(item.get("id", "?"), item["at"], item)


BODIES = Bodies(Queues())


def ask(item: Mapping[str, Any]) -> Ask:
    """The question of one item, read as the service reads it."""
    return BODIES.predict(json.dumps(item).encode()).asks[0]


class Counted:
    """Feature state: the newest `PeopleCounted` of a place at or before the moment."""

    def __init__(self) -> None:
        self.facts: dict[str, dict[str, tuple[datetime, float]]] = {}

    def apply(self, messages: Iterable[Message]) -> None:
        for message in messages:
            self.facts.setdefault(message.subject, {})[message.id] = (message.at, float(message.data["people"]))

    def read(self, ask: Ask) -> FeatureRow:
        place = ask.fields["place"]
        known = [fact for fact in self.facts.get(place, {}).values() if fact[0] <= ask.moment]
        at, people = max(known, default=(None, None))
        age = None if at is None else (ask.moment - at).total_seconds()
        return FeatureRow((float(ask.moment.hour), place, people), {"counts": age})

    def read_many(self, asks: Sequence[Ask]) -> Sequence[FeatureRow]:
        return list(map(self.read, asks))


@dataclass(frozen=True)
class Flat:
    """A scorer that answers one probability, whatever it is asked."""

    probability: float
    features: tuple[Feature, ...] = FEATURES

    def score_rows(self, rows: Sequence[Sequence[Value]]) -> list[float]:
        assert all(len(row) == len(self.features) for row in rows)
        return [self.probability] * len(rows)


def load(content: bytes) -> Flat:
    """Read what `a_package` wrote."""
    try:
        document = json.loads(content)
        by_name = {feature.name: feature for feature in FEATURES} | {"price": Feature("price", Kind.NUMBER, "", "unheard of")}
        return Flat(document["probability"], tuple(by_name[name] for name in document["features"]))
    except (ValueError, KeyError) as error:
        raise ScorerRefused("not a flat scorer", "write one") from error


def a_package(
    probability: float, features: Sequence[str] = ("hour", "place", "seen"), key: Ed25519PrivateKey = KEY
) -> tuple[bytes, bytes, bytes]:
    """Scorer, manifest, signature; the probability tells versions apart."""
    scorer = json.dumps({"probability": probability, "features": list(features)}).encode()
    manifest = Manifest(MODEL, sha256(scorer), "d" * 64, "e" * 64)
    return scorer, manifest.to_bytes(), sign(manifest, key)


class Store:
    """Published packages; `down` makes it unreachable, `asked` counts downloads."""

    def __init__(self) -> None:
        self.packages: dict[str, tuple[bytes, bytes, bytes]] = {}
        self.down = False
        self.asked = 0

    def put(self, package: tuple[bytes, bytes, bytes]) -> str:
        digest = sha256(package[0])
        self.packages[digest] = package
        return digest

    def get(self, digest: str) -> tuple[bytes, bytes, bytes]:
        self.asked += 1
        if self.down or digest not in self.packages:
            raise StoreUnreachable.at("the tests' store", "it is down")
        return self.packages[digest]


class Books:
    """A ledger; `down` makes it unreachable, `asked` counts the looks."""

    def __init__(self) -> None:
        self.lines: list[Assignment] = []
        self.digests: dict[int, str] = {}
        self.barred: set[int] = set()
        self.pins: set[str] = set()
        self.traces: dict[int, str] = {}
        self.down = False
        self.asked = 0

    def promote(
        self, version: int | None, digest: str = "", role: Role = Role.CHAMPION, weight: float = 1.0, recorded_at: datetime = NOON
    ) -> Assignment:
        """Add a line and return it."""
        if version is not None and digest:
            self.digests[version] = digest
        before = ledger.current(self.lines, role)
        line = Assignment(
            id=len(self.lines) + 1,
            model=MODEL,
            role=role,
            replaces=before.id if before else None,
            version=version,
            from_version=before.version if before else None,
            weight=weight,
            at=NOON,
            recorded_at=recorded_at,
            by="a test",
            why="because",
            kind="promotion",
        )
        self.lines.append(line)
        return line

    def standing(self) -> Standing:
        self.asked += 1
        if self.down:
            raise RegistryUnreachable.at("the tests' ledger", "it is down")
        lines = {line.role: line for line in self.lines}
        champion = lines.get(Role.CHAMPION)
        earlier = tuple(ledger.ways_back(self.lines, {*self.barred, champion.version if champion else None}))
        named = {line.version for line in (*lines.values(), *earlier) if line.version is not None}
        digests = {number: self.digests[number] for number in named}
        return Standing(lines, digests, frozenset(self.barred), frozenset(self.pins), earlier, dict(self.traces))


@dataclass(frozen=True)
class Replica:
    """Parts of one replica, and the world around it."""

    parts: ServingParts
    store: Store
    books: Books
    bus: SqliteBus
    online: Counted
    directory: Path
    clock: FixedClock
    limits: Limits

    def follow(self) -> None:
        """One poll of the ledger, without the thread."""
        self.parts.follower.step()

    def again(self) -> "Replica":
        """The same replica after a restart: same disk, same world, nothing in memory."""
        self.parts.log.close()
        online = Counted()
        return replace(self, parts=_parts(self.directory, online, self.bus, self.books, self.store, self.clock, self.limits), online=online)

    def incidents(self) -> list[dict[str, Any]]:
        """What the replica had to tell the audit trail, in order."""
        frames = read_frames(self.directory / "serving" / "log", Position.of(0))
        return [dict(frame) for _, frame in frames if frame["kind"] == "incident"]


def a_replica(
    directory: Path,
    probability: float | None = 0.3,
    every_s: float = 0.02,
    durability: Durability = "process",
    spans: Spans = OFF,
    **limits: float,
) -> Replica:
    """A replica whose champion, version 1, answers this probability; None for no champion. Nothing is loaded yet."""
    store, books, online, bus = Store(), Books(), Counted(), SqliteBus(directory / "bus.db")
    if probability is not None:
        books.promote(1, store.put(a_package(probability)))
    clock, allowed = FixedClock(NOON), Limits(every_s=every_s, **limits)
    parts = _parts(directory, online, bus, books, store, clock, allowed, durability, spans)
    return Replica(parts, store, books, bus, online, directory, clock, allowed)


def _parts(
    directory: Path,
    online: Counted,
    bus: SqliteBus,
    books: Books,
    store: Store,
    clock: FixedClock,
    limits: Limits,
    durability: Durability = "process",
    spans: Spans = OFF,
) -> ServingParts:
    tokens = directory / "feedback.token"
    if not tokens.exists():
        tokens.write_text(f"# those who may report outcomes\n{TOKEN}\n")
    return assemble(
        directory / "serving",
        Queues(),
        source=FactStream(_read(bus, directory), online),
        ledger=books,
        packages=store,
        keys=[KEY.public_key()],
        load=load,
        clock=clock,
        tokens=Tokens(tokens),
        durability=durability,
        limits=limits,
        spans=spans,
    )


def _read(bus: SqliteBus, directory: Path) -> BusInTime:
    """The bus as a replica reads it, with patience for a machine that has other things to do."""
    bus.head(OBSERVATIONS)  # makes the file
    return BusInTime(directory / "bus.db", deadline_s=0.25)


def parts_about_flights(directory: Path, source: FeatureSource | None = None) -> ServingParts:
    """A replica with the real use case, whose model says 0.25 of every flight; features from the bus unless there is another source."""
    use_case = FlightsOnline()
    books, store = Books(), Store()
    books.promote(1, store.put(a_package(0.25)))
    (directory / "feedback.token").write_text(TOKEN)
    return assemble(
        directory / "serving",
        use_case,
        source=source or FactStream(_read(SqliteBus(directory / "bus.db"), directory), use_case.online()),
        ledger=books,
        packages=store,
        keys=[KEY.public_key()],
        load=lambda content: Flat(json.loads(content)["probability"], use_case.features),
        clock=FixedClock(NOON),
        tokens=Tokens(directory / "feedback.token"),
    )


def an_item(place: object = "gate", at: str = "2013-04-01T12:00:00Z", **more: object) -> dict[str, object]:
    """One valid item."""
    return {"id": "q1", "place": place, "at": at, **more}


def a_count(people: float, at: datetime = NOON, place: str = "gate", name: str | None = None) -> Message:
    """One fact."""
    message = Message("PeopleCounted", at, place, {"people": people})
    return replace(message, id=name) if name else message


def main() -> None:
    """Serve version 1 with 0.25."""
    from mlops_lab.serving.app import create_app
    from mlops_lab.serving.on_uvicorn import run

    directory, port = Path(sys.argv[1]), int(sys.argv[2])
    if "features" in sys.argv[3:]:
        from mlops_lab.bootstrap.serve import source_of
        from mlops_lab.settings import load_settings

        parts = parts_about_flights(directory, source_of(load_settings(), FlightsOnline(), WallClock()))
    else:
        parts = parts_about_flights(directory) if "flights" in sys.argv[3:] else a_replica(directory, 0.25).parts
    run(create_app(replace(parts, clock=WallClock())), "127.0.0.1", port)


if __name__ == "__main__":
    main()
