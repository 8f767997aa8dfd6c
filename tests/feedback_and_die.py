"""Takes in reported outcomes of a home in child processes that are killed at random moments, while more are reported; then the rest.

`python feedback_and_die.py HOME KILLS SEED [SERVERS PREFIX]`; on Kafka where servers and a prefix are given. Prints one JSON object: how
often a child was killed at work, and how many outcomes were reported.
"""

import json
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import mlops_lab.data.on_delta
import mlops_lab.data.reported
import mlops_lab.events.on_kafka
import mlops_lab.events.on_sqlite
import mlops_lab.serving.events  # noqa: F401  here, not in each child
from feedback_builders import a_report, nonsense, on_kafka
from killed_at_work import done, kill_at_work
from mlops_lab.bootstrap.founding import found
from mlops_lab.events import FEEDBACK, EventBus
from mlops_lab.events.on_sqlite import SqliteBus
from mlops_lab.pipelines import feedback
from pipeline_builders import SmallLab

PER_ROUND = 7


KAFKA = sys.argv[4:6]


def lab(home: Path) -> SmallLab:
    return on_kafka(home, *KAFKA) if KAFKA else SmallLab(home)


def report(home: Path, numbers: range) -> None:
    bus: EventBus = lab(home).bus if KAFKA else SqliteBus(home / "bus.db")
    bus.publish(FEEDBACK, [nonsense(number) if number % 5 == 4 else a_report(number) for number in numbers])


def main() -> None:
    home, kills, chance = Path(sys.argv[1]), int(sys.argv[2]), random.Random(int(sys.argv[3]))
    feedback.CHUNK = 3
    done(lambda: found(lab(home)))
    rounds = 0

    def prepare() -> None:
        nonlocal rounds
        new = range(PER_ROUND * rounds, PER_ROUND * (rounds + 1))
        done(lambda: report(home, new))  # what talks to a broker must not be forked
        rounds += 1

    killed = kill_at_work(prepare, lambda: feedback.take_in_feedback(lab(home)), kills, chance)
    done(lambda: feedback.take_in_feedback(lab(home)))
    print(json.dumps({"killed": killed, "reported": PER_ROUND * rounds}))


if __name__ == "__main__":
    main()
