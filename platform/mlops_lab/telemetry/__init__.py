"""Traces: what led to what, across processes and hours. The context is W3C's; spans are values, and where they go is up to an adapter."""

from mlops_lab.telemetry.context import TraceContext, current, current_traceparent, read_traceparent
from mlops_lab.telemetry.span import OFF, Kind, Span, Spans

__all__ = ["OFF", "Kind", "Span", "Spans", "TraceContext", "current", "current_traceparent", "read_traceparent"]
