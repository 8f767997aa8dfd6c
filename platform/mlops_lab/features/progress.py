"""How far the stream is in, as it stands beside the rows: one JSON object, written after them."""

import json

from mlops_lab.features.rows import Progress


def to_json(progress: Progress) -> bytes:
    """The object as UTF-8."""
    said = {
        "offsets": {topic: list(offsets) for topic, offsets in sorted(progress.offsets.items())},
        "watermark_s": progress.watermark_s,
        "written_at_s": progress.written_at_s,
        "epoch": progress.epoch,
    }
    return json.dumps(said, separators=(",", ":")).encode()


def from_json(content: bytes | str | None) -> Progress | None:
    """What was written; None for nothing, and for what no writer of ours wrote: whoever writes next writes all rows anew."""
    if content is None:
        return None
    try:
        said = json.loads(content)
        offsets = {str(topic): tuple(int(offset) for offset in partitions) for topic, partitions in said["offsets"].items()}
        return Progress(offsets, int(said["watermark_s"]), float(said["written_at_s"]), str(said["epoch"]))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
