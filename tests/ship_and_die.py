"""Ships the log of a home in child processes that are killed at random moments, while the log grows; then ships the rest.

`python ship_and_die.py HOME KILLS SEED`. Prints one JSON object: how often a child was killed at work, and how many numbers of
`mixed` were written.
"""

import json
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import mlops_lab.data.on_delta
import mlops_lab.events.on_sqlite
import mlops_lab.registry.on_sql  # noqa: F401  here, not in each child
from killed_at_work import done, kill_at_work
from mlops_lab.bootstrap.founding import found
from mlops_lab.data import shipping
from mlops_lab.pipelines import ship as pipeline
from pipeline_builders import SmallLab
from shipping_builders import mixed, write

PER_ROUND = 2


def main() -> None:
    home, kills, chance = Path(sys.argv[1]), int(sys.argv[2]), random.Random(int(sys.argv[3]))
    shipping.CHUNK = 6
    pipeline.kept_bytes = lambda lab: 4_000
    found(SmallLab(home))
    rounds = 0

    def prepare() -> None:
        nonlocal rounds
        write(home, *(frame for number in range(PER_ROUND * rounds, PER_ROUND * (rounds + 1)) for frame in mixed(number)))
        rounds += 1

    killed = kill_at_work(prepare, lambda: pipeline.ship(SmallLab(home)), kills, chance, share=0.5)
    done(lambda: pipeline.ship(SmallLab(home)))
    print(json.dumps({"killed": killed, "written": PER_ROUND * rounds}))


if __name__ == "__main__":
    main()
