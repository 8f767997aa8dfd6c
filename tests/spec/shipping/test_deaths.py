"""Whatever dies between log and tables, each effect is there once."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlops_lab.data import shipping
from mlops_lab.data.on_delta import DeltaTables
from mlops_lab.errors import BusUnreachable
from mlops_lab.events import ANSWERS
from mlops_lab.events.on_sqlite import SqliteBus
from mlops_lab.pipelines import ship as pipeline
from mlops_lab.pipelines.backlog import backlog
from mlops_lab.pipelines.ship import ship
from mlops_lab.registry.ledger import INCIDENT
from mlops_lab.registry.on_sql import SqlLedger
from mlops_lab.serving.segments import segment_numbers
from pipeline_builders import SmallLab
from shipping_builders import effects, expected, incidents, write_mixed

DIE = Path(__file__).parents[2] / "ship_and_die.py"


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("dies_at", range(1, 15))
@pytest.mark.usefixtures("nothing_kept")
def test_a_death_between_any_two_effects_changes_nothing(lab: SmallLab, monkeypatch: pytest.MonkeyPatch, dies_at: int, after: bool) -> None:
    """Tables, bus, ledger, note and clean-up: the process dies just before or just behind the n-th of them."""
    write_mixed(lab, range(4))
    monkeypatch.setattr(shipping, "CHUNK", 9)
    calls = 0

    def dying(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == dies_at and not after:
                raise KeyboardInterrupt
            result = real(*arguments, **named)
            if calls == dies_at:
                raise KeyboardInterrupt
            return result

        monkeypatch.setattr(owner, name, call)

    for owner, name in (
        (DeltaTables, "append"),
        (SqliteBus, "publish"),
        (SqlLedger, "record"),
        (pipeline, "remember_shipped"),
        (pipeline, "drop_segments"),
    ):
        dying(owner, name)
    with pytest.raises(KeyboardInterrupt):
        ship(lab)
    ship(lab.again())
    monkeypatch.undo()

    assert effects(lab) == expected(range(4))
    assert len(incidents(lab, "frames_set_aside")) == 1
    assert lab.trail.verify() is None


def test_a_bus_that_does_not_answer_holds_nothing_back_for_good(lab: SmallLab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows are in the tables; the events follow when the bus is back."""
    write_mixed(lab, range(3))
    down = BusUnreachable.at("bus.db", "disk I/O error")
    with pytest.MonkeyPatch.context() as broken:
        broken.setattr(SqliteBus, "publish", lambda *_: (_ for _ in ()).throw(down))
        with pytest.raises(BusUnreachable):
            ship(lab)
    assert effects(lab).predictions == expected(range(3)).predictions
    assert effects(lab).told == []
    assert backlog(lab)[0].unshipped_bytes > 0

    assert ship(lab.again()) == 0
    assert effects(lab) == expected(range(3))
    assert backlog(lab)[0].unshipped_bytes == 0


@pytest.mark.usefixtures("nothing_kept")
def test_tables_put_back_from_a_copy_get_again_what_the_log_still_has(lab: SmallLab, tmp_path: Path) -> None:
    """The note may only ever make the shipping read more, never less."""
    write_mixed(lab, range(2))
    ship(lab)
    shutil.copytree(lab.home / "tables", tmp_path / "copy")
    write_mixed(lab, range(2, 4), segment_bytes=1_000_000)
    ship(lab.again())
    shutil.rmtree(lab.home / "tables")
    shutil.copytree(tmp_path / "copy", lab.home / "tables")

    ship(lab.again())

    assert effects(lab.again()) == expected(range(4))
    (lab.home / "serving" / "replica-1" / "shipped.json").write_text("torn", encoding="utf-8")
    ship(lab.again())
    assert effects(lab.again()) == expected(range(4))


def test_killed_twenty_times_while_it_ships(tmp_path: Path) -> None:
    """A real process, tables, bus and ledger on disk, SIGKILL at random moments; the log grows on and shipped segments are dropped."""
    done = subprocess.run([sys.executable, str(DIE), str(tmp_path / "home"), "20", "7"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    lab = SmallLab(tmp_path / "home")

    assert said["killed"] == 20
    assert effects(lab) == expected(range(said["written"]))
    positions = [int(fact.subject.split("/")[1]) for fact in incidents(lab, "package_refused")]
    assert len(set(positions)) == said["written"]
    offsets = [delivery.offset for delivery in lab.bus.read(ANSWERS, 0, limit=1_000_000)]
    assert offsets == list(range(1, 2 * said["written"] + 1))
    assert segment_numbers(lab.home / "serving" / "replica-1" / "log")[0] > 1
    assert lab.trail.verify() is None
    assert lab.ledger.unaccounted() == []
    assert {fact.body["what"] for fact in lab.ledger.facts(INCIDENT)} == {"package_refused", "frames_set_aside"}
