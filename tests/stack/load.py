"""Traffic against a stack while it is broken: what was acknowledged, and whether it is in the tables once."""

import http.client
import json
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from types import TracebackType
from typing import Self

from stack.running import Stack, until

ITEM = {
    "flight_id": "UA1545",
    "scheduled_departure": "2013-04-01T13:30:00Z",
    "carrier": "UA",
    "tail_number": "N14228",
    "origin": "EWR",
    "destination": "IAH",
    "distance_miles": 1400,
}
BODY = json.dumps({"purpose": "probe", "items": [ITEM]}).encode()
"""A probe: logged and shipped like any other question, and no part of a week's skill."""
IN_TABLES = """
import json, sys
from mlops_lab.bootstrap import Lab
from mlops_lab.data.prediction import PREDICTIONS
lab = Lab.of_environment()
lab.shipper
wanted = set(json.load(open("/tmp/acknowledged.json")))
found = lab.tables.read(PREDICTIONS)["prediction_id"]
mine = found[found.isin(wanted)]
print(json.dumps({"missing": len(wanted - set(mine)), "twice": int(mine.duplicated().sum())}))
"""


class Load:
    """Asks one question after the other until it is told to stop; keeps the id of every answer that was given."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._url = f"http://127.0.0.1:{stack.port('inference')}/v1/predict"
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.acknowledged: list[str] = []
        self.statuses: Counter[int] = Counter()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self._ends.set()
        self._thread.join()

    @property
    def failed(self) -> int:
        """Questions without a 200; 0 stands for no answer at all."""
        return sum(number for status, number in self.statuses.items() if status != 200)

    def goes_on(self, questions: int = 50, timeout_s: float = 60) -> None:
        """Wait until so many more were answered."""
        wanted = len(self.acknowledged) + questions
        until(lambda: len(self.acknowledged), lambda seen: seen >= wanted, timeout_s, f"not {questions} more answers", every_s=0.05)

    def require_in_tables(self, timeout_s: float = 180) -> None:
        """Every acknowledged prediction is in the table exactly once, as soon as logs are shipped."""
        self._stack.python(f"import json; json.dump({json.dumps(self.acknowledged)}, open('/tmp/acknowledged.json', 'w'))")
        look = lambda: json.loads(self._stack.python(IN_TABLES).splitlines()[-1])  # noqa: E731
        seen = until(look, lambda said: said["missing"] == 0, timeout_s, f"of {len(self.acknowledged)} acknowledged", every_s=3)
        assert seen["twice"] == 0

    def _run(self) -> None:
        while not self._ends.is_set():
            asked = urllib.request.Request(self._url, BODY, {"Content-Type": "application/json"})
            try:
                with urllib.request.urlopen(asked, timeout=10) as answer:
                    self.acknowledged += [one["prediction_id"] for one in json.load(answer)["items"]]
                    self.statuses[200] += 1
            except urllib.error.HTTPError as error:
                self.statuses[error.code] += 1
            except (OSError, http.client.HTTPException, ValueError):  # nobody there, or an answer that was cut off
                self.statuses[0] += 1
            time.sleep(0.01)
