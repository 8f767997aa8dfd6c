"""A run counts only if every 200 of it is in the prediction log: once, and with the probability that was answered."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.serving.load import body_of
from mlops_lab.serving.prediction_log import START, read_frames

Row = tuple[str, float]
"""Prediction id and probability."""

_ROW = re.compile(rb'"prediction_id":"([^"]+)","probability":([-+.0-9eE]+)')


class NotInTheLog(Exception):
    """An answer was given that the log does not hold just as it was given: no figure of this run may be believed."""


def answered(replies: Iterable[bytes]) -> list[Row]:
    """The rows of our replies. Raises NotInTheLog for a 200 that names no prediction."""
    rows: list[Row] = []
    for reply in replies:
        body = body_of(reply)
        found = [(identifier.decode(), float(probability)) for identifier, probability in _ROW.findall(body)]
        if not found:  # another order of fields: slower, and just as good
            document = json.loads(body)
            found = [(item["prediction_id"], item["probability"]) for item in document.get("items", [document]) if "prediction_id" in item]
        if not found:
            raise NotInTheLog(f"a 200 without a prediction id: {body[:300]!r}")
        rows += found
    return rows


def require_logged(replied: Sequence[Row], logged: Sequence[Row], unanswered: int = 0) -> None:
    """Compare answers with the log of the same stretch.

    Args:
        replied: Every row of every 200.
        logged: Every row of the log.
        unanswered: So many rows of the log may have no answer: those under way when the server was killed.

    Raises:
        NotInTheLog: An answer is missing, there twice or there with another probability, or the log holds what nobody was answered.
    """
    twice = [identifier for identifier, times in Counter(identifier for identifier, _ in replied).items() if times > 1]
    if twice:
        raise NotInTheLog(f"{len(twice)} prediction ids were answered twice, such as {twice[0]}")
    times = Counter(identifier for identifier, _ in logged)
    repeated = [identifier for identifier, count in times.items() if count > 1]
    if repeated:
        raise NotInTheLog(f"{len(repeated)} predictions are in the log more than once, such as {repeated[0]}")
    known = dict(logged)
    missing = [identifier for identifier, _ in replied if identifier not in known]
    if missing:
        raise NotInTheLog(f"{len(missing)} of {len(replied)} answers are not in the log, such as {missing[0]}")
    other = [identifier for identifier, probability in replied if known[identifier] != probability]
    if other:
        raise NotInTheLog(f"{len(other)} answers are in the log with another probability, such as {other[0]}")
    if len(known) - len(replied) > unanswered:
        raise NotInTheLog(f"the log holds {len(known) - len(replied)} rows that nobody was answered; {unanswered} may be")


class Witness:
    """Follows the log of one replica over all its rounds, so that an id that comes again in a later round is found."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._position = START
        self._seen: set[str] = set()
        self.answers = 0
        self.kinds: Counter[str] = Counter()
        """Rows by kind of frame, those of predictions by variant too: what the log says was really done."""

    def skip(self) -> None:
        """Take what is in the log now (answers to the question whether a server has started) as known."""
        self._rows()

    def examine(self, replies: Iterable[bytes], unanswered: int = 0) -> None:
        """Require that all replies since the last look are in the log. Raises NotInTheLog."""
        logged = self._rows()
        rows = answered(replies)
        require_logged(rows, logged, unanswered)
        self.answers += len(rows)

    def _rows(self) -> list[Row]:
        rows: list[Row] = []
        for position, frame in read_frames(self._directory, self._position):
            self._position = position
            self.kinds[frame["kind"]] += len(frame.get("rows", ()))
            if frame["kind"] == "predictions":
                self.kinds[frame["variant"]] += len(frame["rows"])
                rows += [(row["prediction_id"], row["probability"]) for row in frame["rows"]]
        again = self._seen.intersection(identifier for identifier, _ in rows)
        if again:
            raise NotInTheLog(f"{len(again)} predictions are in the log of an earlier round as well, such as {min(again)}")
        self._seen.update(identifier for identifier, _ in rows)
        return rows
