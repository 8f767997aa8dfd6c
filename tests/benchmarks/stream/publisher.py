"""A process that publishes events at full speed when it is told to: `python publisher.py FILE`, on the bus that the environment names."""

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_lab.events import OBSERVATIONS, Message

if TYPE_CHECKING:
    from benchmarks.stream.material import Place

PART = 1000


class Publisher:
    """The other process, which has read its events and waits."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self._heard()

    def go(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def took_s(self) -> float:
        """How long it published. Waits for the end of it."""
        return float(self._heard())

    def _heard(self) -> str:
        assert self._process.stdout is not None
        said = self._process.stdout.readline()
        if not said:
            raise RuntimeError("the publisher died; see what it wrote above")
        return said


@contextmanager
def publisher(place: "Place", sent: Sequence[Message], folder: Path) -> Iterator[Publisher]:
    """Started, and gone afterwards."""
    file = folder / "burst.pickle"
    file.write_bytes(pickle.dumps(list(sent)))
    events = place.lab.settings.events
    said = {"LAB_HOME": str(place.lab.home), "LAB_EVENTS__BUS": events.bus, "LAB_EVENTS__PREFIX": events.prefix}
    said["LAB_FEATURES__STORE"] = "sqlite"  # a service of its own has nothing to do with this; Kafka goes with a store only
    process = subprocess.Popen(
        [sys.executable, __file__, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | said
    )
    try:
        yield Publisher(process)
        process.wait()
    finally:
        process.kill()
        process.communicate()
        file.unlink()


def main() -> None:
    from mlops_lab.bootstrap import Lab

    sent = pickle.loads(Path(sys.argv[1]).read_bytes())
    bus = Lab.of_environment().bus
    bus.head(OBSERVATIONS)
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.perf_counter()
    for start in range(0, len(sent), PART):
        bus.publish(OBSERVATIONS, sent[start : start + PART])
    print(time.perf_counter() - began, flush=True)


if __name__ == "__main__":
    main()
