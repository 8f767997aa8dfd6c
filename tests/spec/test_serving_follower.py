"""A replica follows the ledger, trusts nothing it downloads, and goes on with what it has when all else is down."""

import json
import os
import threading
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mlops_lab.errors import ScorerRefused, StoreUnreachable
from mlops_lab.registry.version import Role
from mlops_lab.scoring.manifest import Manifest, sha256, sign
from mlops_lab.serving.cache import PackageCache
from mlops_lab.serving.follower import Limits
from mlops_lab.serving.lease import lease_ends
from mlops_lab.serving.loaded import Slot
from mlops_lab.serving.loading import jittered
from mlops_lab.serving.telling import Telling
from serving_builders import KEY, MODEL, NOON, Replica, Store, a_package, a_replica


def probability(replica: Replica) -> float | None:
    loaded = replica.parts.slot.current
    return None if loaded is None else loaded.scorer.score_rows([(None, None, None)])[0]


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


def test_a_model_stays_while_the_ledger_is_down_or_forgets(tmp_path: Path) -> None:
    replica = a_replica(tmp_path)
    replica.follow()

    replica.books.down = True
    replica.follow()
    assert (probability(replica), bool(replica.parts.follower.trouble)) == (0.3, True)

    replica.books.down, replica.books.lines = False, []
    replica.follow()
    assert (probability(replica), bool(replica.parts.follower.trouble)) == (0.3, True)


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


def test_a_start_needs_neither_ledger_nor_store_and_waits_for_neither(tmp_path: Path) -> None:
    replica = a_replica(tmp_path)
    replica.follow()

    replica = replica.again()
    replica.books.down = replica.store.down = True
    follower = replica.parts.follower
    follower.start()
    assert probability(replica) == 0.3
    assert follower.trouble is None  # nobody was asked yet
    deadline = time.monotonic() + 10
    while not follower.trouble and time.monotonic() < deadline:
        time.sleep(0.01)
    follower.stop()

    assert probability(replica) == 0.3
    assert follower.trouble
    assert follower.known_at is not None


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"model": 3}', "{"])
def test_an_unusable_state_file_does_not_stop_a_start(tmp_path: Path, content: str) -> None:
    replica = a_replica(tmp_path)
    (tmp_path / "serving/state.json").write_text(content)

    replica.parts.follower.start_from_cache()
    assert probability(replica) is None
    replica.follow()
    assert probability(replica) == 0.3


def test_a_store_that_is_down_is_asked_again_and_the_old_model_answers_meanwhile(tmp_path: Path) -> None:
    replica = a_replica(tmp_path)
    replica.follow()
    replica.books.promote(2, replica.store.put(a_package(0.9)))
    replica.store.down = True
    replica.follow()
    assert probability(replica) == 0.3
    assert "Version 2 could not be put in place" in (replica.parts.follower.trouble or "")

    replica.store.down = False
    time.sleep(0.05)  # longer than the first pause, which is one poll
    replica.follow()
    assert (probability(replica), replica.parts.follower.trouble) == (0.9, None)


def _tampered_scorer() -> tuple[bytes, bytes, bytes]:
    scorer, manifest, signature = a_package(0.9)
    return scorer.replace(b"0.9", b"0.8"), manifest, signature


def _signed_by_a_stranger() -> tuple[bytes, bytes, bytes]:
    return a_package(0.9, key=Ed25519PrivateKey.generate())


def _of_another_model() -> tuple[bytes, bytes, bytes]:
    scorer, _, _ = a_package(0.9)
    manifest = Manifest("somebody-else's", sha256(scorer), "d" * 64, "e" * 64)
    return scorer, manifest.to_bytes(), sign(manifest, KEY)


def _well_signed_nonsense() -> tuple[bytes, bytes, bytes]:
    return a_package(float("nan"))


def _wants_an_unknown_feature() -> tuple[bytes, bytes, bytes]:
    return a_package(0.9, features=("hour", "price"))


@pytest.mark.parametrize(
    "package", [_tampered_scorer, _signed_by_a_stranger, _of_another_model, _well_signed_nonsense, _wants_an_unknown_feature]
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
    bad = _signed_by_a_stranger()
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


# -- canary and shadow -------------------------------------------------------------------------------------------------------------


def on_trial(replica: Replica) -> dict[str, tuple[int, int]]:
    """Version and permille of canary and shadow, as far as there are any."""
    lineup = replica.parts.slot.require()
    found = {"canary": (lineup.canary, lineup.canary_permille), "shadow": (lineup.shadow, lineup.shadow_permille)}
    return {role: (loaded.version, permille) for role, (loaded, permille) in found.items() if loaded is not None}


def state_of(replica: Replica, name: str) -> str:
    return next(each.state for each in replica.parts.follower.dependencies() if each.name == name)


def tried(replica: Replica, version: int | None, role: Role, weight: float, p: float = 0.6, **how: Any) -> None:
    digest = "" if version is None else replica.store.put(a_package(p))
    replica.books.promote(version, digest, role, weight, **how)


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
@pytest.mark.parametrize("package", [_tampered_scorer, _signed_by_a_stranger, _well_signed_nonsense, None])
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


def test_one_look_at_the_ledger_per_poll(tmp_path: Path) -> None:
    replica = a_replica(tmp_path)
    tried(replica, 2, Role.CANARY, 0.1)
    tried(replica, 3, Role.SHADOW, 0.1, p=0.7)
    for _ in range(5):
        replica.follow()
    assert (replica.books.asked, replica.parts.follower.calls) == (5, 5)


# -- the lease of a canary ---------------------------------------------------------------------------------------------------------


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


# -- a ledger that is down ---------------------------------------------------------------------------------------------------------


def test_a_ledger_that_is_down_is_asked_seldom_and_found_again(tmp_path: Path) -> None:
    """The pauses are scaled down fifty times: 0.2 s stand for 10."""
    assert Limits().down_every_s >= 10
    replica = a_replica(tmp_path, every_s=0.01, down_every_s=0.2)
    replica.follow()
    follower = replica.parts.follower
    replica.books.down = True
    begin = follower.calls
    follower.start()
    try:
        time.sleep(1.0)
        assert 1 <= follower.calls - begin <= 6
        assert follower.failed_calls == follower.calls - begin
        assert state_of(replica, "ledger") == "down"
        replica.books.down = False
        replica.books.promote(2, replica.store.put(a_package(0.6)))
        deadline = time.monotonic() + 5
        while probability(replica) != 0.6 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert (probability(replica), state_of(replica, "ledger"), follower.trouble) == (0.6, "up", None)
    finally:
        follower.stop()


def test_pauses_are_never_shorter_than_asked_and_differ() -> None:
    pauses = [jittered(10.0) for _ in range(200)]
    assert min(pauses) >= 10.0
    assert max(pauses) < 13.4
    assert len(set(pauses)) > 100


def test_a_ledger_that_hangs_keeps_nobody_from_starting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replica = a_replica(tmp_path)
    replica.follow()
    replica = replica.again()
    hangs = threading.Event()
    monkeypatch.setattr(replica.books, "standing", lambda: hangs.wait(20) and None)
    began = time.monotonic()
    replica.parts.follower.start(wait_s=0.2)
    try:
        assert probability(replica) == 0.3
        assert time.monotonic() - began < 3
    finally:
        hangs.set()
        replica.parts.follower.stop()


@pytest.mark.parametrize(("days", "answers"), [(6.9, True), (7.1, False), (-3, True)])
def test_a_start_without_the_ledger_needs_knowledge_that_is_young_enough(tmp_path: Path, days: float, answers: bool) -> None:
    replica = a_replica(tmp_path)
    replica.follow()
    replica = replica.again()
    replica.books.down = True
    replica.clock.at = NOON + timedelta(days=days)

    replica.parts.follower.start_from_cache()
    replica.follow()

    assert (probability(replica) == 0.3) is answers
    trouble = replica.parts.follower.trouble or ""
    assert ("was last heard 7.1 days ago" in trouble) is not answers
    assert replica.parts.follower.known_at == NOON
    replica.books.down = False
    replica.follow()
    assert (probability(replica), replica.parts.follower.trouble) == (0.3, None)


def test_what_a_replica_depends_on_is_said_by_name_and_state(tmp_path: Path) -> None:
    replica = a_replica(tmp_path)
    states = lambda: {each.name: each.state for each in replica.parts.follower.dependencies()}  # noqa: E731
    assert states() == {"ledger": "unknown", "store": "unused", "pin": "none", "canary": "none", "shadow": "none"}
    replica.follow()
    tried(replica, 2, Role.CANARY, 0.1)
    replica.store.down = True
    replica.follow()
    assert states() == {"ledger": "up", "store": "unreachable", "pin": "none", "canary": "left_out", "shadow": "none"}
    replica.books.down = True
    replica.follow()
    ledger, store, _, canary, _ = replica.parts.follower.dependencies()
    assert ledger.state == "down"
    assert (ledger.facts["failed_calls"], ledger.facts["since"]) == (1, "2013-04-01T12:00:00Z")
    assert "it is down" in store.detail
    assert canary.facts == {"version": 2, "permille": 100}


def test_trials_do_not_push_the_way_back_out_of_the_cache(tmp_path: Path) -> None:
    replica = a_replica(tmp_path, 0.1)
    digests = [replica.books.digests[1]]
    replica.follow()
    for version in range(2, 5):
        digests.append(replica.store.put(a_package(version / 10)))
        replica.books.promote(version, digests[-1])
        replica.follow()
    for version in range(5, 9):
        tried(replica, version, Role.CANARY, 0.1, p=0.5 + version / 100)
        tried(replica, version + 10, Role.SHADOW, 0.1, p=0.7 + version / 100)
        replica.follow()
    here = {path.name for path in (tmp_path / "serving/cache").iterdir()}
    assert set(digests[1:]) <= here  # the champion and the two before it
    assert len(here) <= 8


@pytest.mark.parametrize("more", [{}, {"served": [], "barred": [], "settled": [], "left": [], "not_before": 0}])
def test_a_state_file_of_a_release_that_kept_no_history_is_read(tmp_path: Path, more: dict[str, object]) -> None:
    replica = a_replica(tmp_path)
    replica.follow()
    state = tmp_path / "serving/state.json"
    said = json.loads(state.read_text())
    old = {name: said[name] for name in ("model", "version", "assignment", "assigned_at", "scorer_sha256", "known_at")}
    state.write_text(json.dumps(old | more))

    replica = replica.again()
    replica.books.down = replica.store.down = True
    replica.parts.follower.start_from_cache()
    assert probability(replica) == 0.3


class TestCache:
    def cache(self, directory: Path, store: Store) -> PackageCache:
        return PackageCache(directory, store, [KEY.public_key()])

    def test_a_package_is_downloaded_once(self, tmp_path: Path) -> None:
        store = Store()
        digest = store.put(a_package(0.1))
        for _ in range(3):
            assert sha256(self.cache(tmp_path, store).scorer(digest, MODEL)) == digest
        assert store.asked == 1

    def test_the_last_three_used_stay(self, tmp_path: Path) -> None:
        store = Store()
        digests = [store.put(a_package(n / 10)) for n in range(5)]
        cache = self.cache(tmp_path, store)
        for n, digest in enumerate(digests[:4]):
            cache.scorer(digest, MODEL)
            os.utime(tmp_path / digest, (n, n))
        cache.scorer(digests[1], MODEL)
        cache.scorer(digests[4], MODEL)

        assert set(cache.holds()) == {digests[1], digests[3], digests[4]}

    @pytest.mark.parametrize("file", ["scorer.json", "manifest.json", "signature"])
    @pytest.mark.parametrize("harm", ["changed", "emptied", "removed"])
    def test_a_cached_package_that_was_tampered_with_is_downloaded_anew(self, tmp_path: Path, file: str, harm: str) -> None:
        store = Store()
        digest = store.put(a_package(0.1))
        cache = self.cache(tmp_path, store)
        cache.scorer(digest, MODEL)
        path = tmp_path / digest / file
        if harm == "removed":
            path.unlink()
        else:
            path.write_bytes(b"" if harm == "emptied" else path.read_bytes()[:-1] + b"!")

        assert sha256(cache.scorer(digest, MODEL)) == digest
        store.down = True
        assert sha256(cache.scorer(digest, MODEL)) == digest

    def test_nothing_half_or_refused_is_left_in_the_cache(self, tmp_path: Path) -> None:
        store = Store()
        digest = store.put(_signed_by_a_stranger())
        cache = self.cache(tmp_path / "cache", store)

        with pytest.raises(ScorerRefused):
            cache.scorer(digest, MODEL)
        store.down = True
        with pytest.raises(StoreUnreachable):
            cache.scorer("0" * 64, MODEL)
        assert cache.holds() == []

    @pytest.mark.parametrize("digest", ["", "../../etc", "A" * 64, "0" * 63, "0" * 64 + "\n"])
    def test_a_digest_is_not_a_path(self, tmp_path: Path, digest: str) -> None:
        with pytest.raises(ScorerRefused, match="not a digest"):
            self.cache(tmp_path, Store()).scorer(digest, MODEL)

    def test_a_disk_that_takes_nothing_does_not_keep_a_model_from_answering(self, tmp_path: Path) -> None:
        (tmp_path / "cache").write_text("a file in the way")
        store = Store()
        digest = store.put(a_package(0.1))

        assert sha256(self.cache(tmp_path / "cache", store).scorer(digest, MODEL)) == digest
