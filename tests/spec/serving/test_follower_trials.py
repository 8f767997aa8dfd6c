"""A replica tries a canary and a shadow as the ledger says, and a canary no longer than its lease."""

import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from follower_builders import on_trial, probability, signed_by_a_stranger, state_of, tampered_scorer, tried, well_signed_nonsense
from mlops_lab.registry.version import Role
from mlops_lab.scoring.manifest import Manifest
from mlops_lab.serving.lease import lease_ends
from mlops_lab.serving.loaded import Slot
from serving_builders import MODEL, NOON, a_package, a_replica


def test_canary_and_shadow_are_put_in_place_with_the_champion_in_one_step(tmp_path: Path) -> None:
    replica = a_replica(tmp_path)
    replica.follow()
    replica.books.promote(2, replica.store.put(a_package(0.5)))
    tried(replica, 3, Role.CANARY, 0.125)
    tried(replica, 4, Role.SHADOW, 0.1, p=0.7)
    slot, seen = replica.parts.slot, []

    class Noting(Slot):
        __slots__ = ()

        def __setattr__(self, name: str, value: Any) -> None:
            super().__setattr__(name, value)
            seen.append((value.champion.version, on_trial(replica)))

    slot.__class__ = Noting
    replica.follow()

    lineup = slot.require()
    assert seen == [(2, {"canary": (3, 125), "shadow": (4, 100)})]
    assert [state_of(replica, role) for role in ("canary", "shadow")] == ["on", "on"]
    replica.follow()
    assert replica.parts.slot.require() is lineup  # nothing changed, nothing is replaced
    tried(replica, None, Role.CANARY, 0.0)
    replica.follow()
    assert on_trial(replica) == {"shadow": (4, 100)}


@pytest.mark.parametrize("role", [Role.CANARY, Role.SHADOW])
@pytest.mark.parametrize("package", [tampered_scorer, signed_by_a_stranger, well_signed_nonsense, None])
def test_a_trial_that_cannot_be_had_is_left_out_told_once_and_leaves_the_champion_alone(tmp_path: Path, role: Role, package: Any) -> None:
    replica = a_replica(tmp_path)
    replica.follow()
    champion = replica.parts.slot.require().champion
    if package is None:
        replica.books.promote(2, "f" * 64, role, 0.1)
    else:
        bad = package()
        digest = Manifest.from_bytes(bad[1]).scorer_sha256
        replica.store.packages[digest] = bad
        replica.books.promote(2, digest, role, 0.1)

    for _ in range(3):
        replica.follow()
        time.sleep(0.05)

    assert (replica.parts.slot.require().champion, on_trial(replica)) == (champion, {})
    assert f"is left out as {role}" in (replica.parts.follower.trouble or "")
    assert state_of(replica, role) == "left_out"
    what = "package_unreachable" if package is None else "package_refused"
    assert [(told["what"], told["subject"]) for told in replica.incidents()] == [(what, f"{MODEL}/2")]
    replica.books.promote(3, replica.store.put(a_package(0.8)))  # and the champion is followed on
    replica.follow()
    assert probability(replica) == 0.8


def test_a_barred_version_and_the_champion_itself_are_not_tried(tmp_path: Path) -> None:
    replica = a_replica(tmp_path)
    tried(replica, 2, Role.CANARY, 0.1)
    replica.books.promote(1, role=Role.SHADOW, weight=0.1)
    replica.books.barred = {2}
    replica.follow()
    assert on_trial(replica) == {}


class Stopwatch:
    """The monotonic clock of the follower and its lease, told by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 1000.0
        monkeypatch.setattr("mlops_lab.serving.follower.time.monotonic", lambda: self.now_s)


def test_a_canary_is_dealt_nothing_once_its_lease_is_over_whether_or_not_the_ledger_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Stopwatch(monkeypatch)
    for number, down in enumerate((False, True)):
        (tmp_path / str(number)).mkdir()
        replica = a_replica(tmp_path / str(number), canary_lease_s=3600)
        replica.follow()
        tried(replica, 2, Role.CANARY, 0.1)
        tried(replica, 3, Role.SHADOW, 0.1, p=0.7)
        replica.follow()
        replica.books.down = down
        watch.now_s += 3599
        replica.follow()
        assert on_trial(replica) == {"canary": (2, 100), "shadow": (3, 100)}
        watch.now_s += 1.5
        for _ in range(3):
            replica.follow()
        assert on_trial(replica) == {"shadow": (3, 100)}
        assert "is dealt nothing any more" in (replica.parts.follower.trouble or "")
        assert state_of(replica, "canary") == "ended"
        assert [told["what"] for told in replica.incidents()] == ["canary_lease_ended"]

        replica.books.down = False
        replica.books.promote(2, role=Role.CANARY, weight=0.2, recorded_at=NOON + timedelta(hours=1))
        replica.clock.at = NOON + timedelta(hours=1)
        replica.follow()
        assert on_trial(replica)["canary"] == (2, 200)  # a new line is a new lease
        assert replica.parts.follower.trouble is None


@pytest.mark.parametrize("step_min", [-10, 10])
def test_a_step_of_the_wall_clock_changes_no_lease_that_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step_min: int) -> None:
    watch = Stopwatch(monkeypatch)
    replica = a_replica(tmp_path, canary_lease_s=300)
    replica.follow()
    watch.now_s += 0.5
    replica.clock.at = NOON + timedelta(minutes=step_min)  # it is stepped just before the line is seen, and once more after
    tried(replica, 2, Role.CANARY, 0.1)
    replica.follow()
    replica.clock.at = NOON
    watch.now_s += 299
    replica.follow()
    assert on_trial(replica) == {"canary": (2, 100)}
    watch.now_s += 1.5
    replica.follow()
    assert on_trial(replica) == {}


@pytest.mark.parametrize(
    ("age_s", "unseen_s", "left_s"),
    [
        (0, float("inf"), 300),
        (200, float("inf"), 100),  # a start: the wall clock is all there is
        (400, float("inf"), -100),
        (-600, float("inf"), 300),  # from the future: never longer than the lease
        (600, 0.5, 299.5),  # followed: a step of the clock counts for half a second at most
        (200, 120, 180),  # the ledger was not heard for two minutes
        (60, 120, 240),
    ],
)
def test_when_a_lease_ends(age_s: float, unseen_s: float, left_s: float) -> None:
    ends = lease_ends(NOON, 300, now=NOON + timedelta(seconds=age_s), monotonic_s=50.0, unseen_s=unseen_s)
    assert ends == 50.0 + left_s
