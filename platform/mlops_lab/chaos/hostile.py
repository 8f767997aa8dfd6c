"""Bad input: whatever a socket can carry, thousands of times, while ordinary requests go on beside it."""

import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from mlops_lab.chaos.attacks import ATTACKS, ATTACKS_SLOW, SLOW, Attack
from mlops_lab.chaos.client import Client
from mlops_lab.chaos.fault import Fault, Finding, Size, few
from mlops_lab.chaos.history import Request, failures, percentile_ms, read_history
from mlops_lab.chaos.load import Plan
from mlops_lab.chaos.stored import Stored, read_logs, unlogged
from mlops_lab.chaos.world import World

GROWTH_KIB = 24 * 1024
_THREADS = 3
_SLOW_EVERY = 500
_PATIENCE_S = 8.0
_TIMEOUT_S = 1  # the service's own, for heads and bodies, so that the slow ones do not take all day


@dataclass(frozen=True, slots=True)
class Met:
    """What became of one: status, 0 when the connection was closed without an answer, -1 when nothing happened at all, -2 when several
    replies were due and others came, or in another order."""

    kind: str
    status: int
    explained: bool
    framed: bool
    allowed: tuple[int, ...]


@dataclass(frozen=True)
class Assaulted:
    """The evidence: what became of each, the history of ordinary requests, the log, memory from /proc, and the process."""

    met: Sequence[Met]
    beside: Sequence[Request]
    stored: Stored
    resident_kib: Sequence[int]
    same_process: bool


def run(world: World, seed: int, size: Size) -> Assaulted:
    """Send them on connections of their own from a few threads."""
    home = world.home()
    history = home.path / "history.jsonl"
    count = size.of(2_000, 100_000)
    met: list[Met] = []
    resident = []
    body = home.bodies.read_bytes().splitlines()[0]
    with home.replica(head_timeout_s=_TIMEOUT_S, body_timeout_s=_TIMEOUT_S) as replica:
        replica.start()
        pid = replica.pid
        _send_all(replica.port, body, seed + 1, 500, [])  # before the first figure of memory everything has been met once
        resident.append(replica.resident_kib())
        plan = Plan((replica.port,), str(history), str(home.bodies), connections=2, pause_ms=10, seconds=1500, seed=seed)
        with Client(plan) as client:
            client.await_answers()
            for part in range(10):
                _send_all(replica.port, body, seed + 100 * part, count // 10, met)
                if replica.alive:
                    resident.append(replica.resident_kib())
            client.stop()
        same = replica.alive and replica.pid == pid
        replica.end()
    return Assaulted(met, read_history(history), read_logs([home.log()]), resident, same)


def check(seen: Assaulted) -> Finding:
    """Each gets a 4xx with a reason or is closed, nobody else notices, the process lives and does not grow."""
    broken = failures(seen.beside) + unlogged(seen.beside, seen.stored)
    wrong: Counter[tuple[str, str]] = Counter()
    for one in seen.met:
        refused = 400 <= one.status < 500
        if one.status == -1:
            wrong[one.kind, "was left without an answer and without an end"] += 1
        elif one.status == -2:
            wrong[one.kind, "got other replies than were due, or in another order"] += 1
        elif one.status == 0 and one.framed:
            wrong[one.kind, "was closed without an answer"] += 1
        elif one.status and not refused and one.status not in one.allowed:
            wrong[one.kind, f"got {one.status}"] += 1
        elif refused and one.framed and not one.explained:
            wrong[one.kind, f"got {one.status} without a reason"] += 1
    broken += few([f"'{kind}' {what}, {count} times" for (kind, what), count in wrong.items()], most=20)
    growth = max(seen.resident_kib) - seen.resident_kib[0]
    if growth > GROWTH_KIB:
        broken += (f"resident memory grew by {growth / 1024:.0f} MiB, allowed are {GROWTH_KIB // 1024}",)
    if not seen.same_process:
        broken += ("the process did not live through it",)
    if not any(request.status == 200 for request in seen.beside):
        broken += ("no ordinary request was answered beside it",)
    closed = sum(one.status == 0 for one in seen.met)
    measured = (
        f"{len(seen.met)} requests of {len({one.kind for one in seen.met})} kinds, {closed} closed, {sum(wrong.values())} wrong, "
        f"memory + {growth / 1024:.0f} MiB, p99 beside {percentile_ms(seen.beside, 0.99):.0f} ms"
    )
    return Finding(measured, broken)


def _send_all(port: int, body: bytes, seed: int, count: int, met: list[Met]) -> None:
    def work(number: int) -> None:
        chance = random.Random(f"{seed}/{number}")
        for i in range(count // _THREADS + 1):
            slow = i % _SLOW_EVERY == _SLOW_EVERY - 1 or (i == 0 and number == 0)
            kind = chance.choice(SLOW if slow else list(ATTACKS))
            attack = ATTACKS_SLOW[kind](chance, body) if slow else ATTACKS[kind](chance, body)
            met.append(_send(port, attack))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _send(port: int, attack: Attack) -> Met:
    status, explained = -1, False
    with socket.socket() as connection:
        # Closed with a reset: a hundred thousand connections that linger would use up the machine's ports.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.settimeout(_PATIENCE_S)
        try:
            connection.connect(("127.0.0.1", port))
            try:
                if attack.slow:
                    _dribble(connection, attack.content)
                else:
                    connection.sendall(attack.content)
                    if not attack.framed:
                        connection.shutdown(socket.SHUT_WR)
            except (BrokenPipeError, ConnectionResetError):
                pass  # it has heard enough: its answer may be there all the same
            reader = connection.makefile("rb")
            for due in attack.replies[:-1]:
                status, _ = _answer(reader)
                if status // 100 != int(due):
                    return Met(attack.kind, -2, False, attack.framed, attack.allowed)
            status, explained = _answer(reader)
            if attack.replies and status // 100 != int(attack.replies[-1]):
                status = -2
        except TimeoutError:
            status = -1
        except (ConnectionResetError, BrokenPipeError):
            status = 0
    return Met(attack.kind, status, explained, attack.framed, attack.allowed)


def _dribble(connection: socket.socket, content: bytes) -> None:
    connection.setblocking(False)
    deadline = time.monotonic() + _PATIENCE_S
    for at in range(len(content)):
        try:
            connection.send(content[at : at + 1])
            if connection.recv(1, socket.MSG_PEEK) is not None:
                break
        except BlockingIOError:
            pass
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    connection.settimeout(_PATIENCE_S)


def _answer(reader: BinaryIO) -> tuple[int, bool]:
    """The next status that comes, and whether its body is problem details; (0, False) when the connection ends without one."""
    line = reader.readline()
    if not line:
        return 0, False
    length = 0
    while (header := reader.readline().strip().lower()) != b"":
        if header.startswith(b"content-length:"):
            length = int(header.split(b":")[1])
    return int(line.split(b" ")[1]), b'"detail"' in reader.read(length)


BAD_INPUT = Fault(
    "bad-input",
    "bad input",
    "Hostile requests of a hundred kinds over sockets: broken HTTP, broken JSON, wrong values, floods, slow ones.",
    "Each is answered with a 4xx and a reason or closed, others notice nothing, the process lives, memory is flat.",
    "100,000 requests, 0 server errors",
    run,
    check,
)
