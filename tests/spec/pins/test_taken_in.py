"""From a rollback without a ledger to its place in the ledger: replicas of a home, whoever dies on the way."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fleet_builders import AT, AsItWas, Down, Fleet, checkpointed, force, pin_files
from mlops_lab.bootstrap.followed import LedgerOfHome
from mlops_lab.errors import NothingToPin
from mlops_lab.pipelines.handlers import WATCHING
from mlops_lab.pipelines.pins import roll_back_locally, take_in_pins
from mlops_lab.registry import Role
from mlops_lab.serving.pin import PIN, put
from parcel_builders import MODEL
from pin_builders import a_pin
from pipeline_builders import SmallLab, a_training, copied, established, training_flow
from serving_builders import KEY


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
        follower._ledger, ledger = AsItWas(before), follower._ledger
        follower.step()
        follower._ledger = ledger
    assert made.answer() == {"replica-1": 2, "replica-2": 2}
    yield made
    for name in list(made.running):
        made.kill(name)


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
    paths = os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])
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
