"""Child processes that are killed at random moments of their work. They are forks of this one, which has imported everything and opened
nothing: the imports cost seconds."""

import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable


def child(work: Callable[[], object]) -> int:
    """A process that does one thing; returns its pid."""
    pid = os.fork()
    if pid:
        return pid
    try:
        work()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def done(work: Callable[[], object]) -> None:
    """Have a child do it to its end. Leaves the program where it fails."""
    if os.waitpid(child(work), 0)[1]:
        sys.exit("a child failed")


def kill_at_work(prepare: Callable[[], object], work: Callable[[], object], kills: int, chance: random.Random, share: float = 1.0) -> int:
    """Have children work, each after something was prepared, until so many were killed at it, or ten times as many were tried.

    Args:
        prepare: Done in this process before each.
        work: Done in each child.
        kills: How many to kill.
        chance: Draws the moments, from the time that the first one took, which is left alone.
        share: Of that time; less where a round that follows a killed one has more to do.

    Returns:
        How many were killed at work. Leaves the program where a child fails by itself.
    """
    killed, longest = 0, 0.0
    for _ in range(10 * kills):
        prepare()
        began = time.monotonic()
        pid = child(work)
        if longest:
            time.sleep(chance.uniform(0, longest * share))
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(status):
            killed += 1
        elif os.WEXITSTATUS(status):
            sys.exit("a child failed")
        elif not longest:
            longest = time.monotonic() - began
        if killed == kills:
            break
    return killed
