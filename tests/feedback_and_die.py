"""Takes in reported outcomes of a home in child processes that are killed at random moments, while more are reported; then the rest.

`python feedback_and_die.py HOME KILLS SEED [SERVERS PREFIX]`; on Kafka where servers and a prefix are given. Children are forks of this
process, which has imported everything and opened nothing.
Prints one JSON object: how often a child was killed at work, and how many outcomes were reported.
"""

import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import mlops_lab.data.on_delta
import mlops_lab.data.reported
import mlops_lab.events.on_kafka
import mlops_lab.events.on_sqlite
import mlops_lab.serving.events  # noqa: F401  here, not in each child
from feedback_builders import a_report, nonsense, on_kafka
from mlops_lab.bootstrap.founding import found
from mlops_lab.events import FEEDBACK, EventBus
from mlops_lab.events.on_sqlite import SqliteBus
from mlops_lab.pipelines import feedback
from pipeline_builders import SmallLab

PER_ROUND = 7


KAFKA = sys.argv[4:6]


def lab(home: Path) -> SmallLab:
    return on_kafka(home, *KAFKA) if KAFKA else SmallLab(home)


def child(do: Callable[[], object]) -> int:
    """A process that does one thing; what talks to a broker must not be forked."""
    pid = os.fork()
    if pid:
        return pid
    try:
        do()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def report(home: Path, numbers: range) -> None:
    bus: EventBus = lab(home).bus if KAFKA else SqliteBus(home / "bus.db")
    bus.publish(FEEDBACK, [nonsense(number) if number % 5 == 4 else a_report(number) for number in numbers])


def done(do: Callable[[], object]) -> None:
    if os.waitpid(child(do), 0)[1]:
        sys.exit("a child failed")


def main() -> None:
    home, kills, chance = Path(sys.argv[1]), int(sys.argv[2]), random.Random(int(sys.argv[3]))
    feedback.CHUNK = 3
    done(lambda: found(lab(home)))
    killed = reported = 0
    longest = 0.0
    for _ in range(10 * kills):
        new = range(reported, reported + PER_ROUND)
        done(lambda new=new: report(home, new))  # type: ignore[misc]  # a default holds the value
        reported += PER_ROUND
        began = time.monotonic()
        pid = child(lambda: feedback.take_in_feedback(lab(home)))
        if longest:
            time.sleep(chance.uniform(0, longest))
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(status):
            killed += 1
        elif os.WEXITSTATUS(status):
            sys.exit("a child failed")
        elif not longest:
            longest = time.monotonic() - began  # of one round of its own: where in it the others are killed is drawn from this
        if killed == kills:
            break
    done(lambda: feedback.take_in_feedback(lab(home)))
    print(json.dumps({"killed": killed, "reported": reported}))


if __name__ == "__main__":
    main()
