"""What a replay says on the bus: facts and plans before the questions that may use them, ticks of the clock, and outcomes."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from mlops_lab.events import CONTROL, OBSERVATIONS, REFERENCES, SCHEDULE, EventBus, Message
from mlops_lab.replay.client import Answer
from mlops_lab.replay.journal import Journal
from mlops_lab.replay.lead import Lead
from mlops_lab.replay.patience import Patience

TAKEN_IN_TIMEOUT_S = SENT_TIMEOUT_S = 300.0

Reporting = Callable[[Sequence[Mapping[str, Any]]], object]
"""Publishes feedback items."""


class Publisher:
    """Used from one event loop. With a lead, whatever may wait for a broker is done aside: requests go on meanwhile."""

    def __init__(self, bus: EventBus, journal: Journal, patience: Patience, lead: Lead | None, reporting: Reporting | None) -> None:
        """Args:
        bus: Where to.
        journal: Remembers how far facts were published ahead.
        patience: Waits until they are taken in.
        lead: How far facts go ahead, where a stream processor stands between bus and service; None where the service reads the bus.
        reporting: Publishes feedback items; None where they are sent to the service.
        """
        self._bus, self._journal, self._patience = bus, journal, patience
        self._lead, self._reporting = lead, reporting

    @property
    def reports(self) -> bool:
        """Whether outcomes are told on the bus."""
        return self._reporting is not None

    async def steps(self, steps: Iterable[Any], stopping: Callable[[], bool], drain: Callable[[], Awaitable[None]]) -> AsyncIterator[Any]:
        """The steps one by one, each once its facts are where questions are answered from.

        Args:
            steps: In order of time.
            stopping: Whether to publish no more.
            drain: Waits for the requests under way: what they ask about must not fall too far behind the newest fact.
        """
        if self._lead is None:
            for step in steps:
                if step.facts and not stopping():
                    self._bus.publish(OBSERVATIONS, step.facts)
                yield step
            return
        led_to = self._journal.led_to()
        for span in self._lead.spans(steps):
            new = [step for step in span if led_to is None or step.at > led_to]  # a broker would take the others twice
            if new and not stopping():
                await drain()
                await self.publish(SCHEDULE, [plan for step in new for plan in step.plans])
                await self.publish(OBSERVATIONS, [fact for step in new for fact in step.facts])
                self._journal.lead_to(span[-1].at)
            late = "The stream processor did not take in what was published"
            await self._patience.until(self._is_taken_in, TAKEN_IN_TIMEOUT_S, late, "`lab features status`")
            for step in span:
                yield step

    async def all_sent(self) -> bool:
        """Wait until nothing waits for the broker: topics are sent one after the other, and a tick must not overtake the outcomes that its
        windows are decided on. False where we are told to stop before. Raises ServiceNotReady."""
        await self._patience.until(self._is_sent, SENT_TIMEOUT_S, "What was published did not reach the broker", "`lab events topics`")
        return not self._bus.waiting()

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        """Append to a topic; nothing happens without messages."""
        if messages:
            await self.aside(lambda: self._bus.publish(topic, messages))

    async def report(self, items: Sequence[Mapping[str, Any]]) -> Answer:
        """Tell outcomes on the bus: an attempt like any other, accepted once the bus, or its spool, has them."""
        assert self._reporting is not None
        tell, began = self._reporting, time.perf_counter_ns()
        await self.aside(lambda: tell(items))
        return Answer(202, b"", (time.perf_counter_ns() - began) // 1000)

    async def aside(self, call: Callable[[], Any]) -> Any:
        """What a call gives; in a thread where it may wait for a broker."""
        return call() if self._lead is None and self._reporting is None else await asyncio.to_thread(call)

    async def _is_sent(self) -> bool:
        if not self._bus.waiting():
            return True
        await self.aside(lambda: self._bus.head(CONTROL))  # raises while the broker is away, which may take as long as it likes
        return False

    async def _is_taken_in(self) -> bool:
        assert self._lead is not None
        return bool(await self.aside(self._lead.taken_in))


def publish_references(bus: EventBus, facts: Sequence[Message]) -> int:
    """Publish slow-moving facts; those that are there already have no effect."""
    return bus.publish(REFERENCES, facts)
