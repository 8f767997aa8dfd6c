"""A replica follows the ledger and trusts nothing it downloads."""

import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from follower_builders import (
    of_another_model,
    probability,
    signed_by_a_stranger,
    tampered_scorer,
    tried,
    wants_an_unknown_feature,
    well_signed_nonsense,
)
from mlops_lab.registry.version import Role
from mlops_lab.scoring.manifest import Manifest
from mlops_lab.serving.loading import jittered
from mlops_lab.serving.telling import Telling
from serving_builders import a_package, a_replica


def test_what_the_ledger_names_is_put_in_place(tmp_path: Path) -> None:
    replica = a_replica(tmp_path, None)
    replica.follow()
    assert probability(replica) is None

    for version, p in ((1, 0.2), (2, 0.4)):
        replica.books.promote(version, replica.store.put(a_package(p)))
        replica.follow()
        assert probability(replica) == p
        assert replica.parts.slot.require().champion.version == version
    assert replica.parts.follower.trouble is None


def test_the_thread_follows_within_moments(tmp_path: Path) -> None:
    replica = a_replica(tmp_path)
    replica.parts.follower.start()
    try:
        assert probability(replica) == 0.3
        replica.books.promote(2, replica.store.put(a_package(0.6)))
        deadline = time.monotonic() + 5
        while probability(replica) != 0.6 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert probability(replica) == 0.6
    finally:
        replica.parts.follower.stop()


def test_a_line_that_takes_the_role_away_is_obeyed_also_after_a_restart(tmp_path: Path) -> None:
    replica = a_replica(tmp_path)
    replica.follow()
    replica.books.promote(None)
    replica.follow()
    assert probability(replica) is None

    replica = replica.again()
    replica.books.down = True
    replica.parts.follower.start_from_cache()
    assert probability(replica) is None


@pytest.mark.parametrize(
    "package", [tampered_scorer, signed_by_a_stranger, of_another_model, well_signed_nonsense, wants_an_unknown_feature]
)
def test_a_package_that_fails_a_check_never_answers(tmp_path: Path, package: object) -> None:
    replica = a_replica(tmp_path)
    replica.follow()
    bad = package()  # type: ignore[operator]
    digest = Manifest.from_bytes(bad[1]).scorer_sha256
    replica.store.packages[digest] = bad
    replica.books.promote(2, digest)

    replica.follow()

    assert probability(replica) == 0.3
    assert "Version 2 could not be put in place" in (replica.parts.follower.trouble or "")


def test_a_refused_package_is_not_downloaded_twice_a_second(tmp_path: Path) -> None:
    replica = a_replica(tmp_path)
    replica.follow()
    bad = signed_by_a_stranger()
    replica.books.promote(2, replica.store.put(bad))
    asked = replica.store.asked

    for _ in range(30):
        replica.follow()

    assert replica.store.asked - asked <= 2


def test_the_same_scorer_under_a_new_line_is_not_loaded_again(tmp_path: Path) -> None:
    replica = a_replica(tmp_path)
    replica.follow()
    scorer = replica.parts.slot.require().champion.scorer
    replica.books.promote(1)
    replica.follow()

    assert replica.parts.slot.require().champion.scorer is scorer
    assert replica.parts.slot.require().champion.assignment == 2


def test_what_both_threads_find_at_once_is_told_once_and_what_could_not_be_told_is_told_again() -> None:
    told: list[str] = []

    def report(what: str, subject: str, why: str, digests: Mapping[str, str]) -> None:
        told.append(what)
        telling.tell((what, 1), what, subject, why, digests)  # the other thread, meanwhile
        if len(told) == 1:
            raise OSError("the log is full")

    telling = Telling(report)
    for _ in range(3):
        telling.tell(("pin_set", 1), "pin_set", "queues/1", "-", {})
    assert told == ["pin_set", "pin_set"]


def test_one_look_at_the_ledger_per_poll(tmp_path: Path) -> None:
    replica = a_replica(tmp_path)
    tried(replica, 2, Role.CANARY, 0.1)
    tried(replica, 3, Role.SHADOW, 0.1, p=0.7)
    for _ in range(5):
        replica.follow()
    assert (replica.books.asked, replica.parts.follower.calls) == (5, 5)


def test_pauses_are_never_shorter_than_asked_and_differ() -> None:
    pauses = [jittered(10.0) for _ in range(200)]
    assert min(pauses) >= 10.0
    assert max(pauses) < 13.4
    assert len(set(pauses)) > 100
