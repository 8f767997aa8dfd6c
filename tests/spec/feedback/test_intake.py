"""Outcomes that are reported on the bus are in their table once, whoever dies."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from feedback_builders import REPORTED_AT, a_report, events, labelled, nonsense, report
from mlops_lab.data.label import OUTCOMES
from mlops_lab.errors import BusUnreachable, ProgressMoved, StoreUnreachable
from mlops_lab.events import FEEDBACK
from mlops_lab.events.dead import dead_letters
from mlops_lab.pipelines import feedback
from mlops_lab.pipelines.feedback import GROUP, awaited, take_in_feedback
from mlops_lab.pipelines.ship import ship
from pipeline_builders import SmallLab
from shipping_builders import answers, write
from shipping_builders import feedback as feedback_frame

DIE = Path(__file__).parents[2] / "feedback_and_die.py"


class Killed(BaseException):
    """What no handler catches."""


def test_each_report_is_a_row_however_often_it_is_taken_in(lab: SmallLab) -> None:
    report(lab, a_report(1), a_report(2, revision=3, outcome={"hours_late": -0.5}))

    assert take_in_feedback(lab) == 2
    assert take_in_feedback(lab) == take_in_feedback(lab.again()) == 0
    lab.shipper  # noqa: B018
    row = lab.tables.read(OUTCOMES).set_index("event_id").loc["v2"]
    assert (row["prediction_id"], row["revision"], row["hours_late"]) == ("p2", 3, -0.5)
    assert (row["at"], row["received_at"]) == (REPORTED_AT + timedelta(minutes=2), lab.clock.now())


def test_those_that_come_by_http_and_by_the_bus_share_a_table(lab: SmallLab) -> None:
    write(lab.home, answers(1, 2), feedback_frame(1))
    report(lab, a_report(2))
    ship(lab)
    take_in_feedback(lab)

    assert events(lab) == ["v1", "v2"]
    assert len(labelled(lab).rows) == 2


def test_more_than_a_chunk_is_taken_in_chunk_by_chunk(lab: SmallLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feedback, "CHUNK", 3)
    report(lab, *map(a_report, range(8)))

    assert take_in_feedback(lab) == 8
    assert events(lab) == sorted(f"v{number}" for number in range(8))


def deaths(lab: SmallLab, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Callable[[], None]]]:
    """By name: ways to make it die before or after each of its effects."""

    def dying(owner: Any, name: str, after: bool) -> Callable[[], None]:
        def patch() -> None:
            real = getattr(owner, name)

            def call(*args: Any, **how: Any) -> None:
                if after:
                    real(*args, **how)
                raise Killed

            monkeypatch.setattr(owner, name, call)

        return patch

    for owner, name in ((lab.bus, "publish"), (lab.tables, "append"), (lab.bus, "commit")):
        yield f"before {name}", dying(owner, name, after=False)
        yield f"after {name}", dying(owner, name, after=True)


@pytest.mark.parametrize("number", range(6))
def test_a_death_before_or_after_any_effect_repeats_and_loses_nothing(lab: SmallLab, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """The effects: a dead letter, the rows with how far they go, the offset of the group."""
    monkeypatch.setattr(feedback, "CHUNK", 3)
    report(lab, a_report(1), nonsense(2), a_report(3), a_report(4))
    name, die = list(deaths(lab, monkeypatch))[number]
    die()
    with pytest.raises(Killed):
        take_in_feedback(lab)
    again = lab.again()
    take_in_feedback(again)

    assert events(again) == ["v1", "v3", "v4"], name
    assert len(dead_letters(again.bus, FEEDBACK)) == 1
    assert awaited(again) == 0


def test_what_is_killed_at_random_moments_gives_every_outcome_once(tmp_path: Path) -> None:
    """A real process, table and bus on disk, SIGKILL at random moments while outcomes are reported."""
    home = tmp_path / "home"
    run = subprocess.run([sys.executable, str(DIE), str(home), "12", "3"], capture_output=True, text=True, check=False, timeout=300)
    assert run.returncode == 0, run.stderr
    said = json.loads(run.stdout)
    lab = SmallLab(home)
    good = [number for number in range(said["reported"]) if number % 5 != 4]

    assert said["killed"] == 12
    assert events(lab) == sorted(f"v{number}" for number in good)
    assert len(dead_letters(lab.bus, FEEDBACK)) == said["reported"] - len(good)


def test_of_two_that_take_in_at_once_each_row_is_there_once(lab: SmallLab, monkeypatch: pytest.MonkeyPatch) -> None:
    report(lab, a_report(1), a_report(2))
    other, real = lab.again(), lab.tables.append

    def overtaken(*args: Any, **how: Any) -> int:
        monkeypatch.undo()
        take_in_feedback(other)
        return real(*args, **how)

    monkeypatch.setattr(lab.tables, "append", overtaken)

    take_in_feedback(lab)

    assert events(lab) == ["v1", "v2"]
    assert awaited(lab) == 0


def test_a_store_that_does_not_answer_is_asked_again_and_nothing_is_lost(lab: SmallLab, monkeypatch: pytest.MonkeyPatch) -> None:
    report(lab, a_report(1))
    with monkeypatch.context() as patched:
        down = StoreUnreachable.at("the store", "it is down")
        patched.setattr(lab.tables, "append", lambda *_, **__: (_ for _ in ()).throw(down))
        with pytest.raises(StoreUnreachable):
            take_in_feedback(lab)
    assert awaited(lab) == 1

    assert take_in_feedback(lab) == 1
    assert awaited(lab) == 0


def test_a_dead_letter_that_cannot_be_written_holds_the_partition(lab: SmallLab, monkeypatch: pytest.MonkeyPatch) -> None:
    """It must not be passed over: nobody would ever see it."""
    report(lab, nonsense(1), a_report(2))
    with monkeypatch.context() as patched:
        down = BusUnreachable.at("the bus", "it is down")
        patched.setattr(lab.bus, "publish", lambda *_, **__: (_ for _ in ()).throw(down))
        with pytest.raises(BusUnreachable):
            take_in_feedback(lab)
    assert events(lab) == []

    assert take_in_feedback(lab) == 1
    assert [lying.letter.offset for lying in dead_letters(lab.bus, FEEDBACK)] == [1]


def test_the_tables_progress_decides_and_not_the_groups(lab: SmallLab) -> None:
    """Tables that were put back from a copy get what they lack, although the group has been further."""
    report(lab, a_report(1))
    lab.bus.commit(GROUP, FEEDBACK, 1)

    assert take_in_feedback(lab) == 1


def test_a_group_that_lags_behind_the_table_is_brought_up(lab: SmallLab) -> None:
    report(lab, a_report(1))
    take_in_feedback(lab)
    lab.bus.commit(GROUP, FEEDBACK, 0)

    assert take_in_feedback(lab) == 0
    assert awaited(lab) == 0


def test_a_bus_that_was_made_anew_is_taken_in_from_its_beginning(lab: SmallLab) -> None:
    """Its offsets are those of other messages."""
    report(lab, a_report(1), a_report(2))
    take_in_feedback(lab)
    lab.bus.close()
    for file in lab.home.glob("bus.db*"):
        file.unlink()
    again = lab.again()
    report(again, a_report(3))

    assert take_in_feedback(again) == 1
    assert events(again) == ["v1", "v2", "v3"]


def test_progress_that_moved_is_looked_up_again(lab: SmallLab) -> None:
    """The intake believes the table and not its memory."""
    report(lab, a_report(1))
    take_in_feedback(lab)
    intake, name = lab.reported, f"{FEEDBACK}@{lab.bus.log_id(FEEDBACK)}/0"
    other = lab.again().reported
    other.append(name, [], 5, lab.clock.now())

    with pytest.raises(ProgressMoved):
        intake.append(name, [], 7, lab.clock.now())
    assert intake.position(name) == 5
