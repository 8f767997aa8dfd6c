"""A replica goes on with what it has while ledger or store are down, and starts without them."""

import json
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest

from follower_builders import probability, state_of, tried
from mlops_lab.registry.version import Role
from mlops_lab.serving.follower import Limits
from serving_builders import NOON, a_package, a_replica
from waiting import until


def test_a_model_stays_while_the_ledger_is_down_or_forgets(tmp_path: Path) -> None:
    replica = a_replica(tmp_path)
    replica.follow()

    replica.books.down = True
    replica.follow()
    assert (probability(replica), bool(replica.parts.follower.trouble)) == (0.3, True)

    replica.books.down, replica.books.lines = False, []
    replica.follow()
    assert (probability(replica), bool(replica.parts.follower.trouble)) == (0.3, True)


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

    def follows() -> bool:
        replica.follow()
        return probability(replica) == 0.9

    until(follows)  # behind the first pause, which is one poll
    assert replica.parts.follower.trouble is None


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
        began = time.monotonic()
        until(lambda: follower.failed_calls >= 8)
        assert time.monotonic() - began > 0.4, "the pauses grow up to 0.2 s"
        assert follower.failed_calls == follower.calls - begin
        assert state_of(replica, "ledger") == "down"
        replica.books.down = False
        replica.books.promote(2, replica.store.put(a_package(0.6)))
        until(lambda: probability(replica) == 0.6)
        assert (probability(replica), state_of(replica, "ledger"), follower.trouble) == (0.6, "up", None)
    finally:
        follower.stop()


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
