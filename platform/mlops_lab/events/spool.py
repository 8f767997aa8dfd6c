"""A bus whose publishers need not wait for the broker: what it does not take waits in a durable file, in order, and goes on by itself."""

import fcntl
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mlops_lab.errors import BusUnreachable, LabError, TopicDiffers, TopicMissing
from mlops_lab.events.message import Message
from mlops_lab.events.on_sqlite import SqliteBus
from mlops_lab.events.port import Delivery, EventBus

AGAIN_S = 1.0
_CHUNK = 500
_GROUP = "sent"

_log = logging.getLogger(__name__)


class SpooledBus:
    """Implements `EventBus`: reading is the broker's, publishing has a spool behind it.

    While anything of a topic waits, what is published joins the end of its queue: no message overtakes another. Messages are taken from the
    queue when the broker has them, so a death in between sends some twice and loses none. Several processes may share one spool.
    """

    def __init__(self, bus: EventBus, file: Path, check: Callable[[str, Sequence[Message]], None]) -> None:
        """Args:
        bus: The broker.
        file: The spool; its lock lies beside it.
        check: Raises for what the broker would never take: in the spool, it would hold up for ever what comes behind it.
        """
        self._bus = bus
        self._check = check
        self._file = file
        # All as it was published, ids that it has too. The broker may have taken a batch and not said so; sent again with anything left
        # out, the rest of it would come to lie behind what was left out.
        self._spool = SqliteBus(file, each_id_once=False)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._drainer: threading.Thread | None = None
        self.trouble: str | None = None

    def publish(self, topic: str, messages: Iterable[Message]) -> int:
        """See EventBus.publish. A broker that is down or lets nobody in is no error here: the messages wait, see `waiting`.

        Raises:
            TopicMissing, TopicDiffers: The topic has to be put in order first; nothing was taken.
            MessageUnsendable: See KafkaBus.publish; nothing was taken.
            BusUnreachable: The spool cannot be written either.
        """
        sent = list(messages)
        with self._lock:
            if not self._waits(topic):
                try:
                    return self._bus.publish(topic, sent)
                except (TopicMissing, TopicDiffers):
                    raise
                except BusUnreachable as error:
                    self._say(error)
            self._check(topic, sent)
            taken = self._spool.publish(topic, sent)
            self._start()
        return taken

    def waiting(self) -> dict[str, int]:
        """By topic, how many messages wait for the broker; topics without any are left out."""
        if not self._file.exists():
            return {}
        return {topic: count for topic in self._spool.topics() if (count := self._waits(topic))}

    def drain(self) -> int:
        """Hand over what waits. One process does it at a time, another one returns at once.

        Returns:
            How many messages were handed over by this call.

        Raises:
            BusUnreachable: The broker does not take them yet, or one topic has to be put in order first: the others were handed over.
            LabError: Something in the spool is damaged; what waits behind it in its topic stays.
        """
        handed_over = 0
        stuck: LabError | None = None
        with self._alone() as alone:
            for topic in self.waiting() if alone else ():
                try:
                    while found := self._spool.read(topic, self._spool.committed(_GROUP, topic), _CHUNK):
                        self._bus.publish(topic, [delivery.message for delivery in found])
                        self._spool.commit(_GROUP, topic, found[-1].offset)
                        handed_over += len(found)
                    self._spool.forget(topic, self._spool.committed(_GROUP, topic))
                except LabError as error:
                    if isinstance(error, BusUnreachable) and not isinstance(error, TopicMissing | TopicDiffers):
                        raise  # the other topics are on the same broker
                    stuck = stuck or error
        if stuck is not None:
            raise stuck
        return handed_over

    def partitions(self, topic: str) -> int:
        return self._bus.partitions(topic)

    def read(self, topic: str, after: int, limit: int = 1000, partition: int = 0) -> Sequence[Delivery]:
        return self._bus.read(topic, after, limit, partition)

    def head(self, topic: str, partition: int = 0) -> int:
        return self._bus.head(topic, partition)

    def log_id(self, topic: str) -> str:
        return self._bus.log_id(topic)

    def committed(self, group: str, topic: str, partition: int = 0) -> int:
        return self._bus.committed(group, topic, partition)

    def commit(self, group: str, topic: str, offset: int, partition: int = 0) -> None:
        self._bus.commit(group, topic, offset, partition)

    def groups(self, topic: str) -> Sequence[str]:
        return self._bus.groups(topic)

    def start(self) -> None:
        """Go on with what an earlier process left; needed where nothing may be published for long."""
        with self._lock:
            if self.waiting():
                self._start()

    def close(self) -> None:
        """End draining; what waits goes on waiting in the file."""
        self._stop.set()
        if self._drainer is not None:
            self._drainer.join()
        self._spool.close()

    def _waits(self, topic: str) -> int:
        return self._spool.head(topic) - self._spool.committed(_GROUP, topic) if self._file.exists() else 0

    def _start(self) -> None:
        if self._drainer is None or not self._drainer.is_alive():
            self._drainer = threading.Thread(target=self._drain_all, name="spool", daemon=True)
            self._drainer.start()

    def _drain_all(self) -> None:
        """Until nothing waits; the lock is held for the last look, so that whoever publishes finds a drainer or an empty spool."""
        handed_over = 0
        while not self._stop.is_set():
            try:
                handed_over += self.drain()
                with self._lock:
                    if not self.waiting():
                        self._drainer = None
                        break
            except LabError as error:
                self._say(error)
            self._stop.wait(AGAIN_S)
        if self.trouble is not None and not self._stop.is_set():
            self.trouble = None
            _log.info("events.spool_drained", extra={"messages": handed_over})

    def _say(self, error: LabError) -> None:
        if self.trouble != error.what and (self.trouble is None or not isinstance(error, BusUnreachable)):
            _log.error("events.spooled", extra={"why": error.what, "next": error.next_step, "wait_in": str(self._file)})
        self.trouble = error.what

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        """Whether this is the process that drains. The kernel lets go of the lock when its holder dies."""
        if not self._file.exists():
            yield False
            return
        with self._file.with_suffix(".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True
