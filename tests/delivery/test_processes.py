"""The tests of the stack kill containers by the numbers of their processes: a stranger's process never dies of that."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.processes import SAYS_WHOSE, kill_9

CONTAINER = "4f1c9a" + 58 * "0"


@pytest.fixture
def process() -> Iterator["subprocess.Popen[str]"]:
    """One that runs until the test ends."""
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE, text=True) as running:
        yield running
        running.kill()


@pytest.mark.parametrize("file", SAYS_WHOSE)
def test_the_containers_own_process_is_killed(file: str, process: "subprocess.Popen[str]", tmp_path: Path) -> None:
    told(tmp_path, process.pid, file, f"0::/docker/{CONTAINER}\n")

    kill_9(process.pid, CONTAINER, proc=tmp_path)

    assert process.wait(10) == -9


@pytest.mark.parametrize("file", SAYS_WHOSE)
def test_a_process_of_nobody_known_lives_on(file: str, process: "subprocess.Popen[str]", tmp_path: Path) -> None:
    told(tmp_path, process.pid, file, f"0::/docker/{'5' + CONTAINER[1:]}\n")

    with pytest.raises(AssertionError, match=r"not known to be container 4f1c9a0+'s: nothing was killed.\nNext: run the tests as root, on"):
        kill_9(process.pid, CONTAINER, proc=tmp_path)

    assert process.poll() is None


def test_a_number_that_is_no_process_here_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="nothing was killed"):
        kill_9(4_000_000, CONTAINER, proc=tmp_path)


def test_who_may_not_kill_hears_who_may(process: "subprocess.Popen[str]", tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(pid: int, number: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    told(tmp_path, process.pid, "cgroup", CONTAINER)
    monkeypatch.setattr(os, "kill", refused)

    with pytest.raises(AssertionError, match=r"may not be killed by this user.\nNext: run the tests as root."):
        kill_9(process.pid, CONTAINER, proc=tmp_path)


def told(proc: Path, pid: int, file: str, text: str) -> None:
    folder = proc / str(pid)
    folder.mkdir()
    (folder / file).write_text(text)
