"""What the collector of a stack wrote down; `trace_evidence` knows what can be asked of it."""

from pathlib import Path

from stack.running import Stack
from trace_evidence import Seen, spans_in


def collected(stack: Stack, folder: Path) -> list[Seen]:
    """All spans so far, also of files that were put aside when they were full. Copied into a folder, which is made.

    The stack needs the profile `observability`, and `STACK_OTLP=http://otel-collector:4318` and `TRACE_SAMPLE` (0 to 1) in its environment.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stack.compose("cp", "otel-collector:/traces/.", str(folder))
    return spans_in(sorted(folder.glob("spans*.jsonl")))
