"""Waiting for the platform: with an end where it does not do its work, without one while a broker or a store is away."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from mlops_lab.errors import BusUnreachable, FeatureStoreUnreachable, ServiceNotReady

FIRST_LOOK_S, LOOK_EVERY_S = 0.005, 0.05
"""Most of what is waited for takes milliseconds; what does not is looked at less and less often."""
AWAY = (BusUnreachable, FeatureStoreUnreachable)
"""What comes back by itself: publishing goes on into a spool meanwhile."""
LIFE_EVERY_S = 2.0
AFTER_AWAY_S = 60.0
"""A worker gives no sign of life while what it needs is away. So none is looked for, nor for so long after it has come back."""


class Patience:
    """Used from one event loop."""

    def __init__(
        self,
        on_wait: Callable[[], None],
        on_trouble: Callable[[str], None],
        stopping: Callable[[], bool],
        require_life: Callable[[], None] = lambda: None,
    ) -> None:
        """Args:
        on_wait: Called between two looks.
        on_trouble: Called with a sentence when something is away, once, and with an empty one when it is back.
        stopping: Whether to give up waiting.
        require_life: Raises to end the waiting, where somebody who has to do the work is gone.
        """
        self._on_wait, self._on_trouble, self._stopping = on_wait, on_trouble, stopping
        self._require_life, self._look_for_life_at = require_life, 0.0
        self._trouble = ""

    async def until(self, condition: Callable[[], Awaitable[bool]], timeout_s: float, what: str, look_at: str) -> None:
        """Return when a condition holds, or when we are told to stop.

        Raises:
            ServiceNotReady: It does not, although all that it depends on answers; or what `require_life` raises.
        """
        began, pause_s = time.monotonic(), FIRST_LOOK_S
        while not self._stopping():
            try:
                holds = await condition()
                self._tell("")
            except AWAY as error:
                holds, began = False, time.monotonic()
                self._tell(error.what)
            if holds:
                return
            self._on_wait()
            if not self._trouble and time.monotonic() >= self._look_for_life_at:
                self._look_for_life_at = time.monotonic() + LIFE_EVERY_S
                self._require_life()
            if time.monotonic() - began > timeout_s:
                raise ServiceNotReady(f"{what} within {timeout_s:.0f} s.", f"look at {look_at}.")
            await asyncio.sleep(pause_s)
            pause_s = min(LOOK_EVERY_S, 2 * pause_s)

    def _tell(self, trouble: str) -> None:
        if bool(trouble) != bool(self._trouble):
            self._on_trouble(trouble)
            self._look_for_life_at = time.monotonic() + AFTER_AWAY_S
        self._trouble = trouble
