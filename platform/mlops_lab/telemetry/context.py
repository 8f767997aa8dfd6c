"""W3C Trace Context: which trace something belongs to, as it travels in headers, messages, the prediction log and the ledger."""

import os
import re
from contextvars import ContextVar
from typing import NamedTuple

_TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_TRACEPARENT_BYTES = 55

_current: ContextVar["TraceContext | None"] = ContextVar("mlops_lab_trace", default=None)


class TraceContext(NamedTuple):
    """A place in a trace.

    Attributes:
        trace_id: 32 hexadecimal digits, not all 0.
        span_id: 16 hexadecimal digits, not all 0.
        sampled: Whether whoever began the trace wants it recorded.
    """

    trace_id: str
    span_id: str
    sampled: bool = True

    @classmethod
    def new(cls) -> "TraceContext":
        """The beginning of a trace."""
        return cls(os.urandom(16).hex(), _span_id())

    @classmethod
    def parse(cls, traceparent: object) -> "TraceContext | None":
        """Read what a header, a message or a frame says; None where it says nothing that the standard lets one use."""
        if not isinstance(traceparent, str) or (read := read_traceparent(traceparent.encode("ascii", "replace"))) is None:
            return None
        return cls(read[3:35], read[36:52], bool(int(read[53:55], 16) & 1))

    def child(self) -> "TraceContext":
        """A new place in the same trace."""
        return TraceContext(self.trace_id, _span_id(), self.sampled)

    @property
    def traceparent(self) -> str:
        """As the standard writes it, version 00."""
        return f"00-{self.trace_id}-{self.span_id}-0{int(self.sampled)}"


def read_traceparent(value: bytes) -> str | None:
    """The W3C Trace Context of a request: version, trace id, parent id and flags. None for what the standard says to ignore.

    Of a version later than this one those four are what can be understood, whatever follows them.
    """
    if not _TRACEPARENT.match(value):
        return None
    if len(value) > _TRACEPARENT_BYTES and (value[:2] == b"00" or value[_TRACEPARENT_BYTES:][:1] != b"-"):
        return None
    return value[:_TRACEPARENT_BYTES].decode("ascii")


def current() -> TraceContext | None:
    """The span that the calling code runs in; None outside of any."""
    return _current.get()


def current_traceparent() -> str:
    """The same as a text for what is written or sent; empty outside of any."""
    context = _current.get()
    return "" if context is None else context.traceparent


def _span_id() -> str:
    while not (drawn := int.from_bytes(os.urandom(8))):  # 0 stands for none
        pass
    return f"{drawn:016x}"
