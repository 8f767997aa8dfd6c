"""A replica obeys a pin on its own disk while ledger and store are down, until the ledger has taken it in."""

import json
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mlops_lab.registry import Role
from mlops_lab.registry.version import Assignment
from mlops_lab.serving.call import Call
from mlops_lab.serving.loaded import Loaded
from mlops_lab.serving.loading import Loader
from mlops_lab.serving.pin import PIN, Pin, put
from mlops_lab.serving.place import Place
from mlops_lab.serving.service import Service
from pin_builders import a_pin
from serving_builders import KEY, Replica, a_package, a_replica, an_item
from serving_builders import MODEL as QUEUES


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
