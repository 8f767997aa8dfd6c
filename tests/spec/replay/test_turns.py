"""Who may let time go by in a home: one at a time, and traffic stands aside for a person."""

import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from mlops_lab.bootstrap import Lab
from mlops_lab.errors import HomeInUse
from mlops_lab.replay.session import Session
from mlops_lab.replay.turn import Turn
from mlops_lab.settings import Settings


def test_a_second_replay_is_told_at_once_that_it_is_not_its_turn(tmp_path: Path) -> None:
    with Turn(tmp_path).mine(), pytest.raises(HomeInUse, match="Another process replays"), Turn(tmp_path).mine():
        pass
    with Turn(tmp_path).mine():  # the first has let go
        pass


def test_traffic_is_asked_for_its_turn_and_takes_it_up_again_afterwards(tmp_path: Path) -> None:
    traffic, order = Turn(tmp_path, gives_way=True), []
    playing = threading.Event()

    def play() -> None:
        with traffic.mine():
            order.append("traffic")
            playing.set()
            while not traffic.wanted():
                time.sleep(0.02)
            order.append("stands aside")

    thread = threading.Thread(target=play)
    thread.start()
    assert playing.wait(5)
    with Turn(tmp_path).mine():
        order.append("person")
        with pytest.raises(HomeInUse), traffic.mine():
            pass
    thread.join(5)
    with traffic.mine():
        assert not traffic.wanted()

    assert order == ["traffic", "stands aside", "person"]


def test_traffic_that_does_not_stand_aside_is_named(tmp_path: Path) -> None:
    with (
        Turn(tmp_path, gives_way=True).mine(),
        pytest.raises(HomeInUse, match=r"did not stand aside within 0\.3 s"),
        Turn(tmp_path, patience_s=0.3).mine(),
    ):
        pass


def test_traffic_does_not_stand_aside_for_other_traffic(tmp_path: Path) -> None:
    first, second = Turn(tmp_path, gives_way=True), Turn(tmp_path, gives_way=True)
    began = time.monotonic()

    with first.mine(), pytest.raises(HomeInUse, match="Another process replays"), second.mine():
        pass

    assert time.monotonic() - began < 5


def test_a_replay_that_was_killed_leaves_the_turn_to_the_next(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from mlops_lab.replay.turn import Turn\n"
        f"with Turn(Path({str(tmp_path)!r})).mine(): print('mine', flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stdout.readline() == "mine\n"
    with pytest.raises(HomeInUse), Turn(tmp_path).mine():
        pass
    child.kill()
    child.wait()
    child.stdin.close()
    child.stdout.close()

    with Turn(tmp_path).mine():
        pass


def test_a_session_that_gives_way_stops_between_two_requests_and_lets_the_other_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beats: list[float] = []
    looked_twice = threading.Event()

    def beat() -> None:
        beats.append(time.monotonic())
        if len(beats) == 2:
            looked_twice.set()

    lab = Lab(Settings(home=tmp_path))
    monkeypatch.setitem(vars(lab), "ledger", SimpleNamespace(champion=lambda: None))
    session = Session(lab, lambda _: None, gives_way=True, beat=beat)
    stopped = threading.Event()
    playing = threading.Event()

    async def play(weeks: object) -> None:
        playing.set()
        await session._give_way(SimpleNamespace(stop=stopped.set))  # type: ignore[arg-type]

    monkeypatch.setattr(session, "_play", play)
    monkeypatch.setattr(session, "_timeline", lambda week: None)
    seen: list[bool] = []

    def person() -> None:
        assert playing.wait(5)
        assert looked_twice.wait(5)
        seen.append(stopped.is_set())
        with Turn(tmp_path, patience_s=10).mine():
            seen.append(stopped.is_set())

    thread = threading.Thread(target=person)
    thread.start()
    with pytest.raises(HomeInUse, match="asked for its turn"):
        session.play(1)
    thread.join(5)
    session.journal.close()

    assert seen == [False, True]
    assert len(beats) >= 2
