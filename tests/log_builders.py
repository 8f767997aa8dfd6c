"""A prediction log, as a reader sees it."""

from pathlib import Path

from mlops_lab.serving.prediction_log import START, Position, read_frames


def numbers(directory: Path, after: Position = START) -> list[int]:
    return [record["n"] for _, record in read_frames(directory, after)]
