"""What the collector of a stack wrote down; see `trace_evidence` for what is asked of it.

The stack needs the profile `observability`, and `STACK_OTLP=http://otel-collector:4318` and `TRACE_SAMPLE` (0 to 1) in its environment.
"""

from pathlib import Path

from stack.running import Stack
from trace_evidence import Chain, Seen, decisions_to_swaps, requests_to_outcomes, spans_in

__all__ = ["Chain", "Seen", "collected", "decisions_to_swaps", "requests_to_outcomes"]


def collected(stack: Stack, folder: Path) -> list[Seen]:
    """All spans so far, also of files that were put aside when they were full. Copied into a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    stack.compose("cp", "otel-collector:/traces/.", str(folder))
    return spans_in(sorted(folder.glob("spans*.jsonl")))
