"""How a process that works until it is told to stop is told so."""

import signal
from collections.abc import Callable
from types import FrameType


def on_signals(stop: Callable[[], None]) -> None:
    """SIGTERM and Ctrl-C call `stop` from now on, instead of ending the process. Only the main thread may ask for it."""

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
