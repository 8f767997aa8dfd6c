"""Takes in reported outcomes of a home in child processes that are killed at random moments, while more are reported; then the rest.

`python feedback_and_die.py HOME KILLS SEED`. Children are forks of this process, which has imported everything and opened nothing.
Prints one JSON object: how often a child was killed at work, and how many outcomes were reported.
"""

import json
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import mlops_lab.data.on_delta
import mlops_lab.data.reported
import mlops_lab.events.on_sqlite
import mlops_lab.serving.events  # noqa: F401  here, not in each child
from feedback_builders import a_report, nonsense
from mlops_lab.bootstrap.founding import found
from mlops_lab.events import FEEDBACK
from mlops_lab.events.on_sqlite import SqliteBus
from mlops_lab.pipelines import feedback
from pipeline_builders import SmallLab

PER_ROUND = 7


def child(home: Path) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        feedback.take_in_feedback(SmallLab(home))
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def report(home: Path, numbers: range) -> None:
    bus = SqliteBus(home / "bus.db")
    bus.publish(FEEDBACK, [nonsense(number) if number % 5 == 4 else a_report(number) for number in numbers])
    bus.close()


def main() -> None:
    home, kills, chance = Path(sys.argv[1]), int(sys.argv[2]), random.Random(int(sys.argv[3]))
    feedback.CHUNK = 3
    found(SmallLab(home))
    killed = reported = 0
    longest = 0.0
    for _ in range(10 * kills):
        report(home, range(reported, reported + PER_ROUND))
        reported += PER_ROUND
        began = time.monotonic()
        pid = child(home)
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
    _, status = os.waitpid(child(home), 0)
    if status:
        sys.exit("the last child failed")
    print(json.dumps({"killed": killed, "reported": reported}))


if __name__ == "__main__":
    main()
