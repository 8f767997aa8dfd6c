"""Replies that wait for the disk: each for the flush of its record, those that wait share it, and what was not flushed is not answered."""

import os
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from connection_builders import BODY, a_request, listening, logged
from mlops_lab.errors import LogUnwritable
from mlops_lab.serving.disk import Disk
from serving_builders import a_replica
from waiting import until


class TestDisk:
    def test_a_reply_waits_for_its_flush_and_those_that_wait_share_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        replica = a_replica(tmp_path, durability="disk")
        may_flush, flushing, flushes = threading.Semaphore(0), threading.Event(), []
        fdatasync = os.fdatasync

        def held(fd: int) -> None:
            flushing.set()
            assert may_flush.acquire(timeout=10)
            flushes.append(len(logged(replica)))
            fdatasync(fd)

        with listening(replica) as house:
            monkeypatch.setattr(os, "fdatasync", held)
            callers = [house.call() for _ in range(6)]
            callers[0].send(a_request())
            assert flushing.wait(10)
            for caller in callers[1:]:
                caller.send(a_request())
            until(lambda: len(logged(replica)) == 6)
            callers[0].socket.settimeout(0.2)
            with pytest.raises(TimeoutError):
                callers[0].socket.recv(1)
            may_flush.release()
            may_flush.release()
            assert {caller.reply()[0] for caller in callers[1:]} == {200}
            may_flush.release()  # for the end of the log

        assert flushes[:2] == [6, 6]

    def test_a_refusal_waits_for_the_reply_before_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        replica = a_replica(tmp_path, durability="disk")
        may_flush, fdatasync = threading.Event(), os.fdatasync

        def held(fd: int) -> None:
            assert may_flush.wait(10)
            fdatasync(fd)

        with listening(replica) as house:
            monkeypatch.setattr(os, "fdatasync", held)
            caller = house.call().send(a_request())
            until(lambda: len(logged(replica)) == 1)
            caller.send(a_request(b"{"))
            time.sleep(0.1)
            may_flush.set()
            assert [caller.reply()[0] for _ in range(2)] == [200, 400]

    def test_what_could_not_be_flushed_is_not_answered(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        replica = a_replica(tmp_path, durability="disk")

        def broken(_: int) -> None:
            raise OSError(5, "Input/output error")

        keyed = a_request(BODY, "Idempotency-Key: k1")
        with listening(replica) as house:
            caller = house.call()
            with monkeypatch.context() as patch:
                patch.setattr(os, "fdatasync", broken)
                status, headers, _ = caller.send(keyed).reply()
                assert (status, headers["retry-after"]) == (503, "1")
            status, headers, _ = caller.send(keyed).reply()
            assert status == 200
            assert "idempotent-replayed" not in headers
            assert caller.send(keyed).reply()[1]["idempotent-replayed"] == "true"

    def test_what_was_handed_over_before_the_loop_hears_of_a_failed_flush_fails_with_it(self) -> None:
        """Also what is in a new segment already, and a repeated key whose record is in the old one: the next flush would succeed."""
        to_the_loop: queue.Queue[Callable[[], None]] = queue.Queue()
        entered, fails, flushes, done = threading.Event(), threading.Event(), [], []

        class Loop:
            def call_soon_threadsafe(self, work: Any, *arguments: Any) -> None:
                to_the_loop.put(lambda: work(*arguments))

        def sync() -> None:
            flushes.append(1)
            entered.set()
            if len(flushes) == 1:
                assert fails.wait(10)
                raise LogUnwritable.at("log", "Input/output error")

        def each_done(calls: list[Any], _: list[Any], error: LogUnwritable | None) -> None:
            done.append((calls[0], error is None))

        disk = Disk(sync, cast(Any, Loop()), each_done)
        disk.flush(cast(Any, ["a"]), [])
        assert entered.wait(10)
        disk.flush(cast(Any, ["b"]), [])
        fails.set()
        heard = to_the_loop.get(timeout=10)
        disk.flush(cast(Any, ["c"]), [])
        heard()
        assert done == [("a", False), ("b", False), ("c", False)]
        disk.flush(cast(Any, ["d"]), [])
        to_the_loop.get(timeout=10)()
        disk.stop()
        assert done[3:] == [("d", True)]
        assert (len(flushes), disk.waiting) == (2, 0)

    def test_a_flush_that_fails_fails_also_what_was_written_while_it_ran(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The system tells of lost pages once: the flush after it succeeds."""
        replica = a_replica(tmp_path, durability="disk")
        real, flushing, written, seen = os.fdatasync, threading.Event(), threading.Event(), []

        def once(fd: int) -> None:
            seen.append(fd)
            if len(seen) > 1:
                real(fd)
                return
            flushing.set()
            assert written.wait(10)
            raise OSError(5, "Input/output error")

        with listening(replica) as house:
            monkeypatch.setattr(os, "fdatasync", once)
            callers = [house.call() for _ in range(4)]
            callers[0].send(a_request())
            assert flushing.wait(10)
            callers[1].send(a_request(BODY, "Idempotency-Key: k1"))
            until(lambda: len(logged(replica)) == 2)
            callers[2].send(a_request(BODY, "Idempotency-Key: k1"))
            callers[3].send(a_request())
            until(lambda: len(logged(replica)) == 3)
            written.set()
            assert [caller.reply()[0] for caller in callers] == [503] * 4
            status, headers, _ = callers[2].send(a_request(BODY, "Idempotency-Key: k1")).reply()
            assert (status, "idempotent-replayed" in headers) == (200, False)
