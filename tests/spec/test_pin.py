"""Rollback when all else is down: a signed word on the replica's own disk, until the ledger has taken it in."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mlops_lab.bootstrap.followed import LedgerOfHome
from mlops_lab.clock import FixedClock, iso
from mlops_lab.errors import NothingToPin, PinRefused
from mlops_lab.events.on_sqlite import SqliteBus
from mlops_lab.features.policy import FeaturePolicy
from mlops_lab.pipelines.handlers import WATCHING
from mlops_lab.pipelines.pins import roll_back_locally, take_in_pins
from mlops_lab.registry import Role
from mlops_lab.registry.version import Assignment
from mlops_lab.scoring.keys import KeyRing
from mlops_lab.scoring.scorer import Scorer
from mlops_lab.scoring.store import DirectoryStore
from mlops_lab.serving.call import Call
from mlops_lab.serving.facts import FactStream
from mlops_lab.serving.known import Known, Served
from mlops_lab.serving.loaded import Loaded
from mlops_lab.serving.loading import Loader
from mlops_lab.serving.parts import ServingParts, assemble
from mlops_lab.serving.pin import PIN, Pin, opened, put, sealed, way_back
from mlops_lab.serving.place import Place
from mlops_lab.serving.service import Service
from mlops_lab.serving.tokens import Tokens
from pipeline_builders import MODEL, NOW, SmallLab, a_training, copied, established, training_flow, week
from serving_builders import KEY, NOON, Counted, Queues, Replica, a_package, a_replica, an_item
from serving_builders import MODEL as QUEUES

AT = week(7).start


def a_pin(**changes: Any) -> Pin:
    fields: dict[str, Any] = {
        "id": "pin-1",
        "number": 1,
        "model": QUEUES,
        "version": 1,
        "scorer_sha256": "a" * 64,
        "assignment": 1,
        "assigned_at": iso(NOON),
        "leaving": 2,
        "left_assignment": 2,
        "barred": (2,),
        "by": "operator",
        "why": "it answers nonsense",
        "at": iso(NOON),
    }
    return Pin(**fields | changes)


# -- what is signed ------------------------------------------------------------------------------------------------------------------


def test_a_pin_is_read_as_it_was_signed() -> None:
    assert opened(sealed(a_pin(), KEY), [Ed25519PrivateKey.generate().public_key(), KEY.public_key()]) == a_pin()


@pytest.mark.parametrize("field", sorted(json.loads(a_pin().to_bytes())))
def test_a_pin_with_any_field_changed_is_refused(field: str) -> None:
    document = json.loads(sealed(a_pin(), KEY))
    value = document["pin"][field]
    document["pin"][field] = value + 1 if isinstance(value, int) else [*value, 7] if isinstance(value, list) else value + "0"
    with pytest.raises(PinRefused):
        opened(json.dumps(document).encode(), [KEY.public_key()])


NO_PINS = [b"", b"{", b"[]", b"null", b'{"pin": {}, "signature": ""}', b'{"pin": 3, "signature": "00"}', b"\xff", b"[" * 50000, b"7" * 5000]
BADLY_SIGNED = [sealed(a_pin(), Ed25519PrivateKey.generate()), sealed(a_pin(), KEY)[:-1]]
WELL_SIGNED_NONSENSE = [sealed(a_pin(**change), KEY) for change in ({"version": "1"}, {"barred": (True,)}, {"format": "other/1"})]


@pytest.mark.parametrize("content", [*NO_PINS, *BADLY_SIGNED, *WELL_SIGNED_NONSENSE])
def test_what_is_no_pin_is_refused(content: bytes) -> None:
    with pytest.raises(PinRefused):
        opened(content, [KEY.public_key()])


# -- which version to go back to -----------------------------------------------------------------------------------------------------


def served(version: int, assignment: int) -> Served:
    return Served(version, assignment, iso(NOON), f"{version:064x}")


def a_memory(now: tuple[int, int], *before: tuple[int, int], **changes: Any) -> Known:
    version, assignment = now
    earlier = tuple(served(*each) for each in before)
    return replace(Known(QUEUES, version, assignment, iso(NOON), f"{version:064x}", iso(NOON), earlier), **changes)


def test_the_way_back_is_the_last_version_that_a_replica_served_by_the_ledgers_order() -> None:
    back = way_back([a_memory((3, 5), (2, 4), (1, 1)), a_memory((2, 4), (1, 1))])

    assert (back.leaving, back.left_assignment, back.barred) == (3, 5, (3,))
    assert [each.version for each in back.choices] == [2, 1]
    assert [each.version for each in way_back([a_memory((3, 5), (2, 4), (1, 1))], to=1).choices] == [1]


def test_what_is_barred_or_was_pinned_away_is_never_chosen() -> None:
    assert [each.version for each in way_back([a_memory((3, 5), (2, 4), (1, 1), barred=(2,))]).choices] == [1]
    pinned = a_pin(version=2, leaving=3, barred=(3,), left_assignment=5, assignment=4)
    again = way_back([a_memory((2, 4), (3, 5), (1, 1))], [pinned])
    assert (again.leaving, again.barred, [each.version for each in again.choices]) == (2, (2, 3), [1])
    for to, says in ((3, "is barred"), (2, "answers already"), (9, "remembers version 9")):
        with pytest.raises(NothingToPin, match=says):
            way_back([a_memory((2, 4), (3, 5), (1, 1))], [pinned], to=to)


@pytest.mark.parametrize("states", [[], [a_memory((1, 1))], [a_memory((2, 2), (1, 1), barred=(1,))]])
def test_with_nothing_to_go_back_to_it_says_so(states: list[Known]) -> None:
    with pytest.raises(NothingToPin):
        way_back(states)


# -- one replica ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def replica(tmp_path: Path) -> Replica:
    """Served version 1 (0.3), then 2 (0.9), with a canary; then ledger and store went down."""
    made = a_replica(tmp_path)
    made.follow()
    made.books.promote(2, made.store.put(a_package(0.9)))
    made.books.promote(3, made.store.put(a_package(0.5)), Role.CANARY, 0.1)
    made.follow()
    made.books.down = made.store.down = True
    return made


def pin_of(replica: Replica, **changes: Any) -> Pin:
    return a_pin(scorer_sha256=replica.books.digests[1], **changes)


def pinned(replica: Replica, key: Ed25519PrivateKey = KEY, **changes: Any) -> Path:
    path = replica.directory / "serving" / PIN
    put(path, pin_of(replica, **changes), key)
    return path


def answers(replica: Replica) -> int | None:
    current = replica.parts.slot.current
    return None if current is None else current.version


def test_a_pin_is_obeyed_from_the_cache_and_nobody_stays_on_trial(replica: Replica) -> None:
    pinned(replica)
    replica.follow()

    lineup = replica.parts.slot.require()
    assert (lineup.champion.version, lineup.champion.scorer.score_rows([(None, None, None)]), lineup.canary) == (1, [0.3], None)
    assert [(told["what"], told["subject"], told["why"]) for told in replica.incidents()] == [
        ("pin_set", f"{QUEUES}/1", "operator: it answers nonsense")
    ]
    assert "A local pin by operator keeps version 1 in place of 2" in (replica.parts.follower.trouble or "")
    states = {each.name: each for each in replica.parts.follower.dependencies()}
    assert (states["pin"].state, states["pin"].facts["version"], states["canary"].state) == ("set", 1, "paused")


def test_a_pin_wins_over_a_ledger_that_answers_until_that_has_taken_it_in(replica: Replica) -> None:
    path = pinned(replica)
    replica.follow()
    replica.books.down = replica.store.down = False
    for _ in range(3):
        replica.follow()
    replica.books.promote(4, replica.store.put(a_package(0.7)))  # somebody who does not know of the pin
    replica.follow()
    assert (answers(replica), replica.parts.slot.require().canary) == (1, None)

    replica.books.pins.add("pin-1")
    replica.books.promote(1)
    replica.follow()
    assert answers(replica) == 1
    assert path.exists()  # the file need not be gone for the ledger to count again
    replica.books.promote(4)
    replica.follow()
    assert (answers(replica), replica.parts.follower.trouble) == (4, None)
    assert replica.parts.slot.require().canary is not None


def test_a_pin_that_is_set_while_another_version_is_being_loaded_wins(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    replica.books.down = replica.store.down = False
    replica.books.promote(4, replica.store.put(a_package(0.7)))
    get = replica.store.get

    def slowly(digest: str) -> tuple[bytes, bytes, bytes]:
        pinned(replica)
        replica.parts.follower.look()  # the other thread, meanwhile
        return get(digest)

    monkeypatch.setattr(replica.store, "get", slowly)
    replica.follow()
    assert answers(replica) == 1


def test_a_pin_that_is_set_while_the_ledger_takes_the_champion_away_wins(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    replica.books.down = False
    replica.books.promote(None)
    take_away = Place.take_away

    def late(place: Place, line: Assignment) -> bool:
        pinned(replica)
        replica.parts.follower.look()  # the other thread, meanwhile
        return take_away(place, line)

    monkeypatch.setattr(Place, "take_away", late)
    replica.follow()
    replica.follow()
    assert answers(replica) == 1


def test_what_a_pin_left_while_it_was_being_loaded_is_not_put_in_place(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another replica was faster: a person pinned the version away, and removed the pin, before this one had it."""
    replica.books.down = replica.store.down = False
    replica.books.promote(4, replica.store.put(a_package(0.7)))
    get = replica.store.get

    def slowly(digest: str) -> tuple[bytes, bytes, bytes]:
        path = pinned(replica, leaving=4, barred=(4,), left_assignment=4)
        replica.parts.follower.look()
        path.unlink()
        replica.parts.follower.look()
        return get(digest)

    monkeypatch.setattr(replica.store, "get", slowly)
    replica.follow()
    assert answers(replica) == 1


def test_a_pin_that_is_taken_in_while_its_version_is_being_loaded_has_no_effect(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    replica.books.down = replica.store.down = False
    loaded, began = Loader.loaded, False

    def slowly(loader: Loader, *args: Any) -> Loaded:
        nonlocal began
        if not began:
            began = True
            replica.books.pins.add("pin-1")
            replica.books.promote(4, replica.store.put(a_package(0.7)))
            replica.parts.follower.ask()  # the other thread, meanwhile
        return loaded(loader, *args)

    monkeypatch.setattr(Loader, "loaded", slowly)
    pinned(replica)
    replica.parts.follower.look()
    assert (answers(replica), replica.parts.follower.trouble) == (4, None)


def test_a_restart_obeys_the_pin_also_when_it_was_written_while_the_replica_was_dead(replica: Replica) -> None:
    replica.parts.log.close()
    pinned(replica)
    for _ in range(2):
        replica = replica.again()
        replica.parts.follower.start_from_cache()
        assert answers(replica) == 1
    replica.follow()
    assert answers(replica) == 1


def test_a_pin_that_was_taken_in_has_no_effect_when_its_file_comes_back(replica: Replica) -> None:
    path = pinned(replica)
    content = path.read_bytes()
    replica.follow()
    replica.books.down = replica.store.down = False
    replica.books.pins.add("pin-1")
    replica.books.promote(1)
    replica.follow()
    path.unlink()
    replica.books.promote(4, replica.store.put(a_package(0.7)))
    replica.follow()
    path.write_bytes(content)
    replica.follow()
    assert answers(replica) == 4
    replica = replica.again()
    replica.books.down = True
    replica.parts.follower.start_from_cache()
    assert answers(replica) == 4


def test_a_pin_that_is_gone_without_having_been_taken_in_does_not_bring_the_bad_version_back(replica: Replica) -> None:
    """Somebody removed the file, or the ledger that took it in was lost and an older copy restored."""
    path = pinned(replica)
    replica.follow()
    path.unlink()
    replica.books.down = replica.store.down = False
    replica.follow()
    for _ in range(2):
        replica.follow()
        assert answers(replica) == 1
        assert "The ledger still names version 2, which a pin left" in (replica.parts.follower.trouble or "")
        replica = replica.again()
        replica.parts.follower.start_from_cache()
    replica.books.promote(2)  # a line that is newer than the pin counts
    replica.follow()
    assert (answers(replica), replica.parts.follower.trouble) == (2, None)


@pytest.mark.parametrize("harm", ["tampered", "foreign key", "another model", "not a pin", "a folder", "unreadable"])
def test_a_pin_that_is_not_ours_is_ignored_and_told_once(replica: Replica, harm: str) -> None:
    path = replica.directory / "serving" / PIN
    if harm == "foreign key":
        pinned(replica, Ed25519PrivateKey.generate())
    elif harm == "another model":
        pinned(replica, model="somebody-else's")
    elif harm == "a folder":
        path.mkdir()
    elif harm == "unreadable":
        path.symlink_to(path)
    elif harm == "tampered":
        path.write_bytes(pinned(replica).read_bytes().replace(b'"leaving": 2', b'"leaving": 3'))
    else:
        path.write_text("nonsense")

    for _ in range(2):
        replica = replica.again()
        replica.parts.follower.start_from_cache()
        for _ in range(3):
            replica.follow()
        assert answers(replica) == 2
        assert "pin" in (replica.parts.follower.trouble or "")
        state = next(each.state for each in replica.parts.follower.dependencies() if each.name == "pin")
        assert state == "refused"
    assert [told["what"] for told in replica.incidents()] == ["pin_refused", "pin_refused"]  # once by each process


def test_a_package_that_cannot_be_had_leaves_what_answers_and_is_tried_again(replica: Replica) -> None:
    digest = replica.store.put(a_package(0.05))
    pinned(replica, version=7)
    path = replica.directory / "serving" / PIN
    put(path, replace(pin_of(replica, version=7), scorer_sha256=digest), KEY)
    replica.follow()
    assert answers(replica) == 2
    assert "could not be put in place" in (replica.parts.follower.trouble or "")
    replica.store.down = False
    time.sleep(0.05)
    replica.follow()
    assert answers(replica) == 7


def test_under_load_no_request_fails_and_the_old_version_answers_within_moments(replica: Replica) -> None:
    """With the ledger and the store down, and the follower's threads at their ordinary pace."""
    service, done = Service(replica.parts), threading.Event()
    seen: list[tuple[int, int, float]] = []
    body = json.dumps(an_item()).encode()

    def ask() -> None:
        while not done.is_set():
            reply = service.answer(Call("predict", [(b"content-type", b"application/json")], body))
            seen.append((reply.status, json.loads(reply.body).get("model_version"), time.monotonic()))
            time.sleep(0.0005)

    asking = threading.Thread(target=ask)
    replica.parts.follower.start(wait_s=0.1)
    asking.start()
    try:
        time.sleep(0.1)
        written = time.monotonic()
        pinned(replica)
        until = written + 5
        while seen[-1][1] != 1 and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(0.1)
    finally:
        done.set()
        asking.join()
        replica.parts.follower.stop()
    assert {status for status, _, _ in seen} == {200}
    versions = [version for _, version, _ in seen]
    first = versions.index(1)
    assert set(versions[:first]) <= {2, 3}  # 3 is the canary
    assert set(versions[first:]) == {1}
    assert min(at for _, version, at in seen if version == 1) - written < 5


# -- a home --------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> SmallLab:
    """Version 1 was champion, then 2; 3 is registered."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mlops_lab.pipelines.train.MIN_ROWS", 500)
        lab = established(tmp_path_factory.mktemp("pins") / "home")
        for origin, flipped in (("second", 0.05), ("third", 0.1)):
            training_flow(a_training(AT, origin, flip_share=flipped), lab)
    assert len({version.scorer_sha256 for version in lab.ledger.versions()}) == 3
    force(lab, 2)
    return lab


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


@pytest.fixture
def fleet(template: SmallLab, tmp_path: Path) -> Iterator[Fleet]:
    """Two replicas that served version 1 and now serve 2."""
    lab = copied(template, tmp_path / "home")
    made = Fleet(lab)
    lines = lab.ledger.assignments()
    for name in ("replica-1", "replica-2"):
        made.start(name)
        follower = made.running[name].follower
        one = LedgerOfHome(lab.home, MODEL).standing()
        before = replace(one, lines={Role.CHAMPION: lines[0]}, digests={1: lab.ledger.version(1).scorer_sha256})
        follower._ledger, ledger = _Said(before), follower._ledger
        follower.step()
        follower._ledger = ledger
    assert made.answer() == {"replica-1": 2, "replica-2": 2}
    yield made
    for name in list(made.running):
        made.kill(name)


class _Said:
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


@pytest.mark.parametrize("how", ["missing", "corrupt", "empty"])
def test_the_whole_way_from_a_rollback_without_a_ledger_to_its_place_in_the_ledger(
    fleet: Fleet, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlops_lab.pipelines.handlers.ship", lambda lab: 0)  # the watcher's other duty
    lab = fleet.lab
    checkpointed(lab)
    with Down(lab, how):
        fleet.kill("replica-2")
        done = roll_back_locally(lab, by="operator", why="it answers nonsense")
        assert (done.pin.version, done.pin.leaving, done.replicas) == (1, 2, ("replica-1", "replica-2"))
        assert fleet.answer() == {"replica-1": 1}
        fleet.start("replica-2")  # was dead when it was written
        assert fleet.answer() == {"replica-1": 1, "replica-2": 1}
        fleet.kill("replica-1")
        fleet.start("replica-1")
        assert fleet.answer() == {"replica-1": 1, "replica-2": 1}

    lab = fleet.lab = lab.again()
    for _ in range(2):
        assert fleet.answer() == {"replica-1": 1, "replica-2": 1}  # the ledger answers again, and still names 2
    entries = len(lab.trail.entries())
    assert WATCHING.idle is not None
    WATCHING.idle(lab)
    assert (lab.ledger.champion().version, lab.ledger.champion().kind, lab.ledger.champion().by) == (1, "override", "operator")
    assert lab.ledger.state(2) == "barred"
    assert pin_files(lab) == []
    assert fleet.answer() == {"replica-1": 1, "replica-2": 1}
    WATCHING.idle(lab)
    assert [(entry.action, entry.reason) for entry in lab.trail.entries()[entries:]] == [("OverrideForced", "it answers nonsense")]
    assert lab.trail.verify() is None
    force(lab, 3)
    assert fleet.answer() == {"replica-1": 3, "replica-2": 3}


KILLED = """
import os, signal, sys
from pathlib import Path
from pipeline_builders import SmallLab
from mlops_lab.pipelines import pins
moment, home = sys.argv[1], Path(sys.argv[2])
die = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
lab = SmallLab(home)
if moment == "before the first file is removed":
    Path.unlink = die
elif moment == "after the first file is removed":
    unlink, gone = Path.unlink, []
    def second(self, **how):
        if self.name == "pin.json":
            die() if gone else gone.append(self)
        unlink(self, **how)
    Path.unlink = second
elif moment == "within the transaction":
    type(lab.ledger)._end_trials = die
elif moment == "after the first pin is written":
    write, done = pins.put, []
    def second(*arguments):
        die() if done else done.append(1)
        write(*arguments)
    pins.put = second
    pins.roll_back_locally(lab, by="operator", why="killed")
pins.take_in_pins(lab)
"""


def killed(lab: SmallLab, moment: str) -> None:
    paths = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", KILLED, moment, str(lab.home)], env=os.environ | {"PYTHONPATH": paths}, capture_output=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


@pytest.mark.parametrize("moment", ["within the transaction", "before the first file is removed", "after the first file is removed"])
def test_an_intake_that_is_killed_is_finished_by_the_next_and_counts_once(fleet: Fleet, moment: str) -> None:
    lab = fleet.lab
    roll_back_locally(lab, by="operator", why="it answers nonsense")
    before = len(lab.ledger.assignments())
    assert fleet.answer() == {"replica-1": 1, "replica-2": 1}

    killed(lab, moment)

    assert fleet.answer() == {"replica-1": 1, "replica-2": 1}
    for name in ("replica-1", "replica-2"):
        fleet.kill(name)
        fleet.start(name)
    assert fleet.answer() == {"replica-1": 1, "replica-2": 1}
    for _ in range(2):
        take_in_pins(lab)
    assert [line.version for line in lab.ledger.assignments()[before:]] == [1]
    assert (lab.ledger.state(2), pin_files(lab)) == ("barred", [])
    assert fleet.answer() == {"replica-1": 1, "replica-2": 1}


def test_a_rollback_that_is_killed_between_two_replicas_is_completed_and_not_made_anew(fleet: Fleet) -> None:
    lab = fleet.lab
    killed(lab, "after the first pin is written")
    assert len(pin_files(lab)) == 1
    assert fleet.answer() == {"replica-1": 1, "replica-2": 2}

    done = roll_back_locally(lab, by="operator", why="once more")

    assert (done.completed, done.pin.version, done.pin.why, done.replicas) == (True, 1, "killed", ("replica-2",))
    assert fleet.answer() == {"replica-1": 1, "replica-2": 1}
    take_in_pins(lab)
    assert len(lab.ledger.facts("pin")) == 1


def test_of_two_pins_the_newer_counts_and_both_leave_a_bar(fleet: Fleet) -> None:
    lab = fleet.lab
    force(lab, 3)
    assert fleet.answer() == {"replica-1": 3, "replica-2": 3}
    first = roll_back_locally(lab, by="operator", why="three is bad").pin
    left = (lab.home / "serving/replica-2" / PIN).read_bytes()
    assert fleet.answer() == {"replica-1": 2, "replica-2": 2}
    second = roll_back_locally(lab, by="operator", why="two is worse").pin
    assert (first.version, second.version, second.number, second.barred) == (2, 1, 2, (2, 3))
    (lab.home / "serving/replica-2" / PIN).write_bytes(left)  # as if the second one had not reached it

    (taken,) = take_in_pins(lab)

    assert (taken.version, lab.ledger.state(2), lab.ledger.state(3)) == (1, "barred", "barred")
    (lab.home / "serving/replica-2" / PIN).write_bytes(left)  # as if the intake had been killed before it removed this one
    assert take_in_pins(lab) == []
    assert (lab.ledger.champion(), pin_files(lab)) == (taken, [])
    assert fleet.answer() == {"replica-1": 1, "replica-2": 1}


def test_a_replica_that_never_had_the_old_package_gets_it_from_the_other_ones_cache(fleet: Fleet) -> None:
    lab = fleet.lab
    fleet.start("replica-3")
    assert fleet.answer()["replica-3"] == 2
    (lab.home / "packages").rename(lab.home / "packages-gone")
    shutil.rmtree(lab.home / "serving/replica-3/cache" / lab.ledger.version(1).scorer_sha256)
    checkpointed(lab)
    with Down(lab, "missing"):
        roll_back_locally(lab, by="operator", why="it answers nonsense")
        assert set(fleet.answer().values()) == {1}


def test_a_replica_that_came_later_knows_the_way_back_and_has_it_at_hand(fleet: Fleet) -> None:
    """It never served version 1; the ledger told it of it."""
    lab = fleet.lab
    for name in ("replica-1", "replica-2"):
        fleet.kill(name)
        shutil.rmtree(lab.home / "serving" / name)
    fleet.start("replica-3")
    assert fleet.answer() == {"replica-3": 2}
    (lab.home / "packages").rename(lab.home / "packages-gone")
    checkpointed(lab)
    with Down(lab, "missing"):
        assert roll_back_locally(lab, by="operator", why="it answers nonsense").pin.version == 1
        assert fleet.answer() == {"replica-3": 1}


def test_with_nothing_to_go_back_to_nothing_is_written(fleet: Fleet) -> None:
    lab = fleet.lab
    with pytest.raises(NothingToPin, match="remembers version 3"):
        roll_back_locally(lab, by="operator", why="-", to=3)
    for folder in (lab.home / "serving").iterdir():
        for package in (folder / "cache").glob(f"{lab.ledger.version(1).scorer_sha256}/*"):
            package.write_bytes(b"harm")
    (lab.home / "packages").rename(lab.home / "packages-gone")
    with pytest.raises(NothingToPin, match="in no replica's cache and not in the store"):
        roll_back_locally(lab, by="operator", why="-")
    assert pin_files(lab) == []


def test_a_pin_that_is_not_signed_by_this_home_is_not_taken_in(fleet: Fleet) -> None:
    lab = fleet.lab
    digest = lab.ledger.version(1).scorer_sha256
    put(lab.home / "serving/replica-1" / PIN, a_pin(model=MODEL, scorer_sha256=digest), KEY)
    assert take_in_pins(lab) == []
    assert (lab.ledger.champion().version, pin_files(lab)) == (2, ["replica-1"])
    assert fleet.answer() == {"replica-1": 2, "replica-2": 2}


def test_event_time_of_an_intake_is_where_the_ledger_has_come_to(fleet: Fleet) -> None:
    lab = fleet.lab
    later = datetime(2013, 3, 11, 12, tzinfo=UTC)
    lab.ledger.record_decision("2013-W10", {"outcome": "ok", "because": "-"}, later, "watch")
    roll_back_locally(lab, by="operator", why="-")
    (taken,) = take_in_pins(lab)
    assert taken.at == later
