"""Ships the log of a home in child processes that are killed at random moments, while the log grows; then ships the rest.

`python ship_and_die.py HOME KILLS SEED`. Children are forks of this process, which has imported everything and opened nothing: the imports
cost seconds. Prints one JSON object: how often a child was killed at work, and how many numbers of `mixed` were written.
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
import mlops_lab.events.on_sqlite
import mlops_lab.registry.on_sql  # noqa: F401  here, not in each child
from mlops_lab.bootstrap.founding import found
from mlops_lab.data import shipping
from mlops_lab.pipelines import ship as pipeline
from pipeline_builders import SmallLab
from shipping_builders import mixed, write

PER_ROUND = 2


def child(home: Path) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        pipeline.ship(SmallLab(home))
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def main() -> None:
    home, kills, chance = Path(sys.argv[1]), int(sys.argv[2]), random.Random(int(sys.argv[3]))
    shipping.CHUNK = 6
    pipeline.kept_bytes = lambda lab: 4_000
    found(SmallLab(home))
    killed = written = 0
    longest = 0.0
    for _ in range(10 * kills):
        write(home, *(frame for number in range(written, written + PER_ROUND) for frame in mixed(number)))
        written += PER_ROUND
        began = time.monotonic()
        pid = child(home)
        if longest:
            time.sleep(chance.uniform(0, longest / 2))
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
    print(json.dumps({"killed": killed, "written": written}))


if __name__ == "__main__":
    main()
